"""Words that only a balancer of HTTP can have, in the spelling of hints.py: without dashes.

People who move a configuration over meet them first, and "unknown key" would not say why: nginy is
layer 4. foreign.py has the words that stand for a key of nginy's.

Sources: nginx, the directives of ngx_http_core_module, ngx_http_proxy_module and the other standard
modules of http; HAProxy's configuration manual 3.0, 4.1 "Proxy keywords matrix", those for mode
http.

Tested in tests/config/words/test_hints.py.
"""

from typing import Final

HTTP_WORDS: Final = frozenset(
    (
        # nginx
        *("absolute_redirect", "add_header", "add_trailer", "alias", "auth_basic"),
        *("auth_basic_user_file", "auth_request", "autoindex", "charset"),
        *("client_body_buffer_size", "client_body_timeout", "client_header_buffer_size"),
        *("client_header_timeout", "client_max_body_size", "default_type", "error_page", "etag"),
        *("expires", "fastcgi_param", "fastcgi_pass", "grpc_pass", "gunzip", "gzip"),
        *("gzip_static", "gzip_types", "http2", "http3", "if_modified_since"),
        *("ignore_invalid_headers", "index", "internal", "keepalive_requests"),
        *("keepalive_timeout", "large_client_header_buffers", "limit_except", "limit_req"),
        *("limit_req_zone", "location", "locations", "merge_slashes", "port_in_redirect"),
        *("proxy_buffering", "proxy_buffers", "proxy_busy_buffers_size", "proxy_cache"),
        *("proxy_cache_bypass", "proxy_cache_key", "proxy_cache_path", "proxy_cache_valid"),
        *("proxy_cookie_domain", "proxy_cookie_path", "proxy_hide_header", "proxy_http_version"),
        *("proxy_ignore_headers", "proxy_intercept_errors", "proxy_method", "proxy_pass_header"),
        *("proxy_pass_request_headers", "proxy_redirect", "proxy_request_buffering"),
        *("proxy_set_body", "proxy_set_header", "proxy_temp_path", "rewrite", "root", "satisfy"),
        *("scgi_pass", "secure_link", "server_name_in_redirect", "server_tokens", "ssi"),
        *("sub_filter", "try_files", "types", "underscores_in_headers", "uwsgi_pass"),
        # HAProxy
        *("capture", "compression", "cookie", "errorfile", "errorfiles", "http_after_response"),
        *("http_check", "http_error", "http_request", "http_response", "http_reuse"),
        *("monitor_uri", "redirect", "reqadd", "rspadd", "timeout http_keep_alive"),
        *("timeout http_request", "unique_id_format", "unique_id_header"),
        # others
        *("middlewares", "path_prefix", "path_rewrite", "virtual_hosts", "websocket"),
    )
)
