"""Commands that do not serve: they answer questions, and change what runs.

`plan` says what a reload would change, and `explain` which way a client would take. Both are pure:
configurations in, text out. `check` runs the health checks once. `running/` has the commands that
ask a running nginy, `top/` its screen, `printed/` what nginy prints about itself, and `importing/`
reads other programs' configurations. `cli.py` and `cli_questions.py` parse the command line and
print the text.
"""
