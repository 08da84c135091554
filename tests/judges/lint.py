"""Runs many of pkilint's commands in one process, each as if it were typed by itself.

Its start takes most of a command's time. Standard input: a JSON list of command lines, standard
output: a JSON list of {code, out, err}. Nothing here judges anything.
"""

import contextlib
import importlib
import io
import json
import sys


def run(command):
    out, err = io.StringIO(), io.StringIO()
    program = importlib.import_module("pkilint.bin." + command[0])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = program.main(command[1:])
        except SystemExit as end:
            code = end.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


json.dump([run(command) for command in json.load(sys.stdin)], sys.stdout)
