# Programs that try to get out of the sandbox, to use more than they may, or to leave something behind. Each says ESCAPED, or
# leaves a mark that tests/sandbox/main.rs finds, when it succeeds. Before each stand: INSIDE (false for the harmless twin that is
# run outside, where every one of them must succeed), OUT (a folder of somebody else's), VICTIM (a process of somebody
# else's), HARNESS (the process that asked for all this), TCP, UDP, TCP6 (ports where somebody listens), libc and call(name, ...).
# "#: NAME" begins a program; "root" after it: its twin needs to be root's.

#: fork_bomb
for _ in range(10_000 if INSIDE else 3):
    if os.fork() == 0:
        print("ESCAPED", flush=True)
        if INSIDE:
            time.sleep(100)
        os._exit(0)

#: clone3_bomb
# struct clone_args: a child that is told of by SIGCHLD.
args = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17)
child = call("clone3", args, 88)
if child == 0:
    os._exit(0)
print("ESCAPED" if child > 0 else "no")

#: vfork_and_exec
subprocess.run(["/bin/sh", "-c", "echo ESCAPED"])

#: posix_spawn
os.waitpid(os.posix_spawn("/bin/echo", ["echo", "ESCAPED"], {}), 0)

#: shell_instead
os.execv("/bin/sh", ["sh", "-c", "echo ESCAPED"])

#: another_program_by_a_thread
# Its pid stays, but not the signal that it gets when the jailer ends.
run = lambda: os.execv(sys.executable, [sys.executable, "-c", "print('ESCAPED')"])
threading.Thread(target=run).start()
time.sleep(1)

#: thread_bomb
threading.stack_size(64 << 10)
gate = threading.Event()
for i in range(100_000 if INSIDE else 200):
    threading.Thread(target=gate.wait, daemon=True).start()
    if i == 150:
        print("ESCAPED", flush=True)
gate.set()

#: thread_with_descriptors_of_its_own
# CLONE_THREAD without CLONE_FILES: allowed, it says EINVAL, for it has no CLONE_SIGHAND.
call("clone", 0x10000, 0, 0, 0, 0)
print("ESCAPED" if ctypes.get_errno() == errno.EINVAL else "no")

#: memory_bomb
blocks = []
for _ in range(1000 if INSIDE else 50):
    blocks.append(b"x" * (8 << 20))
    if len(blocks) == 50:
        print("ESCAPED", flush=True)

#: shared_memory_bomb
blocks = []
for _ in range(1000 if INSIDE else 50):
    blocks.append(mmap.mmap(-1, 8 << 20))
    blocks[-1].write(b"x" * (8 << 20))
    if len(blocks) == 50:
        print("ESCAPED", flush=True)

#: memory_file
fd = os.memfd_create("hidden")
os.write(fd, b"x" * (1 << 20))
print("ESCAPED")

#: sysv_shared_memory
memory = libc.shmget(0, 1 << 20, 0o1600)
if memory >= 0:
    print("ESCAPED")
    libc.shmctl(memory, 0, None)

#: dev_shm
open("/dev/shm/harness-hostile", "w").write("x")
print("ESCAPED")
os.remove("/dev/shm/harness-hostile")

#: disk_filler
for i in range(10_000 if INSIDE else 10):
    with open(f"filler-{i}", "wb") as file:
        file.write(b"x" * (4 << 20))
    if i == 9:
        print("ESCAPED", flush=True)

#: disk_filler_that_goes_on
# Catches what it gets, and counts what it could write.
written = 0
for i in range(60):
    try:
        with open(f"filler-{i}", "wb") as file:
            written += file.write(b"x" * (1 << 20))
            file.flush()
    except OSError:
        written -= 1 << 20
print("ESCAPED" if written > 32 << 20 else "no")

#: files_without_names
held = []
for _ in range(50 if INSIDE else 10):
    file = open("held", "wb", buffering=0)
    os.remove("held")
    file.write(b"x" * (4 << 20))
    held.append(file)
print("ESCAPED")

#: files_without_names_mapped
libc.mmap.restype = ctypes.c_void_p
for _ in range(50 if INSIDE else 10):
    with open("held", "wb+", buffering=0) as file:
        os.remove("held")
        file.write(b"x" * (4 << 20))
        # PROT_READ, MAP_SHARED
        place = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, file.fileno(), ctypes.c_long(0))
        assert place != ctypes.c_void_p(-1).value
print("ESCAPED")

#: one_large_file
with open("large", "wb") as file:
    for _ in range(40):
        file.write(b"x" * (1 << 20))
print("ESCAPED")

#: large_file_in_one_step
with open("large", "wb") as file:
    os.ftruncate(file.fileno(), 40 << 20)
print("ESCAPED")

#: files_without_number
for i in range(20_000):
    open(f"file-{i}", "w").close()
print("ESCAPED")

#: folders_without_bottom
for i in range(6_000):
    os.mkdir("d")
    os.chdir("d")
print("ESCAPED")

#: output_flood
for _ in range(1_000_000 if INSIDE else 300):
    print("x" * 1023)
print("ESCAPED", flush=True)

#: error_flood
while INSIDE:
    sys.stderr.write("x" * 1023)
sys.stderr.write("x" * (256 << 10))
print("ESCAPED", flush=True)

#: sleep_for_ever
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(3600 if INSIDE else 0.1)
print("ESCAPED", flush=True)

#: sleep_with_its_streams_shut
if INSIDE:
    os.closerange(0, 100)
    time.sleep(3600)
print("ESCAPED", flush=True)

#: spin_for_ever
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
began = time.process_time()
while time.process_time() < began + (20 if INSIDE else 0.1):
    pass
print("ESCAPED", flush=True)

#: spin_in_threads
seconds = 20 if INSIDE else 0.1
def spin():
    while time.process_time() < seconds:
        hashlib.sha256(bytes(1 << 20)).digest()
threads = [threading.Thread(target=spin) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("ESCAPED", flush=True)

#: raise_its_own_limits
for limit in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
    resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("ESCAPED")

#: tcp
socket.create_connection(("127.0.0.1", TCP), timeout=2).sendall(b"secret")
print("ESCAPED")

#: tcp_over_ipv6
socket.create_connection(("::1", TCP6), timeout=2).sendall(b"secret")
print("ESCAPED")

#: udp
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"secret", ("127.0.0.1", UDP))
print("ESCAPED")

#: raw_socket root
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
print("ESCAPED")

#: packet_socket root
socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
print("ESCAPED")

#: netlink
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
print("ESCAPED")

#: unix_socket
s = socket.socket(socket.AF_UNIX)
s.connect(OUT + "/socket")
s.sendall(b"secret")
print("ESCAPED")

#: abstract_socket
s = socket.socket(socket.AF_UNIX)
s.connect("\0harness-hostile-" + str(HARNESS))
s.sendall(b"secret")
print("ESCAPED")

#: pair_that_writes_elsewhere
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.sendto(b"secret", OUT + "/datagrams")
print("ESCAPED")

#: names
socket.getaddrinfo("localhost", 80)
print("ESCAPED")

#: listening
s = socket.socket()
s.bind(("0.0.0.0", 0))
s.listen()
print("ESCAPED")

#: read_elsewhere
print("ESCAPED" if "secret" in open(OUT + "/secret").read() else "no")

#: read_by_dots
print("ESCAPED" if "secret" in open("../" * 20 + OUT + "/secret").read() else "no")

#: read_home
# Beside what lies on the way to the interpreter and to the scratch folder.
known = {os.path.relpath(path, HOME).split("/")[0] for path in (sys.base_prefix, sys.prefix, os.getcwd())}
print("ESCAPED" if set(os.listdir(HOME)) - known else "no")

#: read_accounts
print("ESCAPED" if "root" in open("/etc/passwd").read() else "no")

#: list_root
print("ESCAPED" if "var" in os.listdir("/") else "no")

#: proc_of_the_harness
print("ESCAPED" if open(f"/proc/{HARNESS}/environ", "rb").read() else "no")

#: proc_of_the_parent
print("ESCAPED" if open(f"/proc/{os.getppid()}/cmdline", "rb").read() else "no")

#: proc_root
print("ESCAPED" if os.listdir(f"/proc/{HARNESS}/root/etc") else "no")

#: memory_of_the_parent
print("ESCAPED" if open(f"/proc/{os.getppid()}/mem", "rb") else "no")

#: write_elsewhere
open(OUT + "/written", "w").write("x")

#: append_to_a_library root
open(os.__file__, "a").close()
print("ESCAPED")

#: cut_off
os.truncate(OUT + "/victim", 0)

#: cut_off_by_opening_to_read
os.open(OUT + "/victim", os.O_RDONLY | os.O_TRUNC)

#: change_mode
os.chmod(OUT + "/victim", 0o4777)

#: change_owner root
os.chown(OUT + "/victim", 1234, 1234)

#: change_times
os.utime(OUT + "/victim", (1, 1))

#: delete
os.remove(OUT + "/victim")

#: symbolic_link
os.symlink(OUT + "/secret", "link")
print("ESCAPED" if "secret" in open("link").read() else "no")

#: write_through_a_symbolic_link
os.symlink(OUT + "/victim", "link")
open("link", "w").write("x")

#: hard_link
os.link(OUT + "/secret", "hard")
print("ESCAPED" if "secret" in open("hard").read() else "no")

#: move_out
open("mine", "w").write("x")
os.rename("mine", OUT + "/moved")

#: kill_parent
os.kill(os.getppid(), signal.SIGKILL if INSIDE else 0)
print("ESCAPED")

#: kill_the_harness
os.kill(HARNESS, signal.SIGKILL if INSIDE else 0)
print("ESCAPED")

#: kill_all
os.kill(-1, signal.SIGKILL if INSIDE else 0)
print("ESCAPED")

#: kill_another
os.kill(VICTIM, signal.SIGKILL)

#: kill_by_descriptor
signal.pidfd_send_signal(os.pidfd_open(VICTIM), signal.SIGKILL)

#: kill_by_queue
info = (ctypes.c_int * 32)(signal.SIGTERM, 0, -1)
call("rt_sigqueueinfo", VICTIM, signal.SIGTERM, info)

#: kill_by_owning
# The kernel sends the signal when the pipe can be read.
r, w = os.pipe()
fcntl.fcntl(r, fcntl.F_SETOWN, VICTIM)
fcntl.fcntl(r, 10, int(signal.SIGKILL))
fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
os.write(w, b"x")

#: slow_another_down
os.setpriority(os.PRIO_PROCESS, VICTIM, 10)
print("ESCAPED")

#: bind_another_to_a_core
os.sched_setaffinity(VICTIM, {0})
print("ESCAPED")

#: limit_another
resource.prlimit(VICTIM, resource.RLIMIT_NOFILE, (10, 10))
print("ESCAPED")

#: trace_another
# PTRACE_ATTACH, PTRACE_DETACH
if libc.ptrace(16, VICTIM, None, None) == 0:
    os.waitpid(VICTIM, 0x40000000)
    libc.ptrace(17, VICTIM, None, None)
    print("ESCAPED")

#: read_anothers_memory
# process_vm_readv of an address where nothing lies: allowed, it says EFAULT.
place = ctypes.create_string_buffer(8)
own = (ctypes.c_uint64 * 2)(ctypes.addressof(place), 8)
others = (ctypes.c_uint64 * 2)(4096, 8)
read = call("process_vm_readv", VICTIM, own, 1, others, 1, 0)
print("ESCAPED" if read >= 0 or ctypes.get_errno() == errno.EFAULT else "no")

#: daemon
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.3)
        open(OUT + "/written", "w").write("x")
    os._exit(0)

#: thread_that_stays
def late():
    time.sleep(0.3)
    open(OUT + "/written", "w").write("x")
threading.Thread(target=late).start()

#: mount root
os.mkdir("m")
if libc.mount(b"none", b"m", b"tmpfs", 0, None) == 0:
    print("ESCAPED")
    libc.umount2(b"m", 2)

#: chroot root
os.mkdir("r")
os.chroot("r")
print("ESCAPED")

#: become_root root
os.setuid(0)
print("ESCAPED")

#: new_user_namespace
print("ESCAPED" if libc.unshare(0x10000000) == 0 else "no")

#: anothers_namespace root
fd = os.open(f"/proc/{HARNESS}/ns/net", os.O_RDONLY)
print("ESCAPED" if libc.setns(fd, 0) == 0 else "no")

#: device root
os.mknod("disk", 0o060600, os.makedev(8, 0))
print("ESCAPED")

#: io_uring
print("ESCAPED" if call("io_uring_setup", 1, (ctypes.c_char * 120)()) >= 0 else "no")

#: keyring
print("ESCAPED" if call("add_key", b"user", b"harness-hostile", b"x", 1, -1) >= 0 else "no")

#: performance_events root
print("ESCAPED" if call("perf_event_open", (ctypes.c_uint32 * 32)(1, 128), 0, -1, -1, 0) >= 0 else "no")

#: user_faults root
print("ESCAPED" if call("userfaultfd", 0) >= 0 else "no")

#: file_handles root
handle = (ctypes.c_uint32 * 34)(128)
mount = ctypes.c_int()
print("ESCAPED" if call("name_to_handle_at", -100, OUT.encode() + b"/secret", handle, ctypes.byref(mount), 0) == 0 else "no")

#: watch_files
print("ESCAPED" if libc.inotify_add_watch(libc.inotify_init(), OUT.encode(), 0xFFF) >= 0 else "no")

#: inherited_descriptors
for fd in range(3, 500):
    try:
        if b"secret" in os.pread(fd, 100, 0):
            print("ESCAPED")
    except OSError:
        pass

#: environment
print("ESCAPED" if "CARGO_MANIFEST_DIR" in os.environ else "no")
