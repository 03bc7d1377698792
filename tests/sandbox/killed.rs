//! What is left of a harness that is killed while it waits for a program.
use super::*;

/// Not a test of its own: the process that the next one kills.
#[test]
#[ignore = "run by a_killed_harness_leaves_nothing"]
fn a_harness_that_waits() {
    let Ok(backend) = std::env::var("HARNESS_TEST_BACKEND") else {
        return;
    };
    let backend = if backend == "Landlock" {
        Backend::Landlock
    } else {
        Backend::Bubblewrap
    };
    let limits = Limits {
        wall_seconds: 100,
        ..LIMITS
    };
    let sandbox = Sandbox::by(backend, harness(), limits).unwrap();
    println!("waiting");
    std::io::stdout().flush().unwrap();
    // A thread that became another program would be told of the jailer's end no more.
    let waiting = r"
import os, sys, threading, time
open('left', 'w').write('x')
again = [sys.executable, '-c', 'import time; time.sleep(90)']
threading.Thread(target=os.execv, args=(sys.executable, again)).start()
time.sleep(90)
";
    let _ = sandbox.run(waiting);
}

/// Folders of jailers that lie among the temporary files.
fn left() -> Vec<PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let ours = |p: &PathBuf| p.to_string_lossy().contains("harness-scratch-");
    entries.map(|e| e.path()).filter(ours).collect()
}

#[test]
fn a_killed_harness_leaves_nothing() {
    let _alone = alone();
    for backend in backends() {
        kill_while_a_program_runs(backend, false);
    }
}

#[test]
fn no_program_outlives_its_jailer() {
    let _alone = alone();
    for backend in backends() {
        kill_while_a_program_runs(backend, true);
    }
}

/// Kills a harness that waits for a program, before it the program's jailer where this is asked, and looks for what is left.
fn kill_while_a_program_runs(backend: Backend, jailer_first: bool) {
    let before = left();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "killed::a_harness_that_waits",
        "--ignored",
        "--nocapture",
    ]);
    command.env("HARNESS_TEST_BACKEND", backend.to_string());
    let mut harness = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    let mut out = harness.stdout.take().unwrap();
    while !String::from_utf8_lossy(&said).contains("waiting") {
        let mut byte = [0];
        assert_eq!(
            out.read(&mut byte).unwrap(),
            1,
            "{}",
            String::from_utf8_lossy(&said)
        );
        said.push(byte[0]);
    }
    // The jailer, and the program.
    let deadline = Instant::now() + Duration::from_secs(30);
    let children = loop {
        let children = descendants(harness.id());
        if children
            .iter()
            .any(|pid| command_line(*pid).contains("Runs a program"))
        {
            break children;
        }
        assert!(Instant::now() < deadline, "the program did not start");
        std::thread::sleep(Duration::from_millis(20));
    };
    // Its thread has had time to try.
    std::thread::sleep(Duration::from_millis(500));
    if jailer_first {
        kill_jailers(&children);
    }
    harness.kill().unwrap();
    harness.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let wait_while = |what: &dyn Fn() -> bool| {
        while what() {
            assert!(
                Instant::now() < deadline,
                "{backend}: {children:?} or {:?} stay",
                left()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_while(&|| children.iter().any(|pid| alive(*pid)));
    if jailer_first {
        // The next one removes what that had.
        Sandbox::by(backend, super::harness(), LIMITS).unwrap();
    }
    wait_while(&|| left().iter().any(|folder| !before.contains(folder)));
}

#[test]
fn a_killed_jailer_is_replaced_and_what_it_leaves_removed() {
    let _alone = alone();
    for backend in backends() {
        let before = left();
        let sandbox = Sandbox::by(backend, harness(), LIMITS).unwrap();
        assert!(kill_jailers(&descendants(std::process::id())) > 0);
        assert_eq!(sandbox.run("x = 1").unwrap().ended, Ended::Finished);
        drop(sandbox);
        let after = left();
        assert!(
            after.iter().all(|folder| before.contains(folder)),
            "{backend}: {after:?}"
        );
    }
}

#[test]
fn while_its_jailer_stands_still_a_program_takes_no_time() {
    let _alone = alone();
    for backend in backends() {
        let limits = Limits {
            wall_seconds: 4,
            ..LIMITS
        };
        let sandbox = Sandbox::by(backend, harness(), limits).unwrap();
        let run = std::thread::scope(|scope| {
            let run = scope.spawn(|| sandbox.run("import time\ntime.sleep(6)").unwrap());
            std::thread::sleep(Duration::from_millis(500));
            let jailers = descendants(std::process::id());
            assert!(signal_jailers(&jailers, rustix::process::Signal::STOP) > 0);
            std::thread::sleep(Duration::from_secs(4));
            signal_jailers(&jailers, rustix::process::Signal::CONT);
            run.join().unwrap()
        });
        assert_eq!(run.ended, Ended::Finished, "{backend}");
    }
}

fn kill_jailers(processes: &[i32]) -> usize {
    signal_jailers(processes, rustix::process::Signal::KILL)
}

/// Sends a signal to the jailers among these processes: how many they were.
fn signal_jailers(processes: &[i32], signal: rustix::process::Signal) -> usize {
    let jailer = |pid: &&i32| command_line(**pid).ends_with("\0jailer\0");
    let jailers: Vec<&i32> = processes.iter().filter(jailer).collect();
    for &&pid in &jailers {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
    jailers.len()
}

/// Processes under this one, at any depth.
fn descendants(of: u32) -> Vec<i32> {
    let mut all = vec![of as i32];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        next += 1;
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
            if status.contains(&format!("\nPPid:\t{pid}\n")) {
                all.extend(
                    process
                        .file_name()
                        .to_str()
                        .and_then(|n| n.parse::<i32>().ok()),
                );
            }
        }
    }
    all.split_off(1)
}

fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}

fn alive(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}
