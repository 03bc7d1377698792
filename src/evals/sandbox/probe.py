# What must work and what must not, before a sandbox is trusted. `OUTSIDE`, a file that anybody may read, is named before it.
import os, socket, sys, threading

with open("file", "w") as file:
    file.write("x" * 1000)
os.rename("file", "other")
os.remove("other")
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()


def must_fail(what, attempt):
    try:
        attempt()
    except OSError:
        return
    raise RuntimeError("the sandbox lets a program " + what)


def fork():
    if os.fork() == 0:
        os._exit(0)


must_fail("read other files", lambda: open(OUTSIDE))
must_fail("write other files", lambda: open(OUTSIDE, "a"))
must_fail("make processes", fork)
must_fail("become another program", lambda: os.execv(sys.executable, ["python3", "-c", ""]))
must_fail("have sockets", socket.socket)
must_fail("signal others", lambda: os.kill(1, 0))
assert os.getuid() != 0
