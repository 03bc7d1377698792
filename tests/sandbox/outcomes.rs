//! What is said of a program follows from the program, and from nothing that a machine or a name adds.
use super::*;

#[test]
fn a_program_that_ends_early_does_not_find_what_says_that_it_has_finished() {
    let _alone = alone();
    // What the frames around it have names for, to where the driver would say it.
    let frames = r"
import __main__, os, sys
frame = sys._getframe()
while frame:
    for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
        if isinstance(value, bytes) and len(value) == 64:
            os.write(__main__.done, value)
    frame = frame.f_back
os._exit(0)
";
    // A second time round, with nothing to read.
    let again = "import __main__, os\nos.write(__main__.done, __main__.run())\nos._exit(0)";
    for sandbox in sandboxes() {
        for text in [frames, again] {
            let run = sandbox.run(text).unwrap();
            assert_eq!(run.ended.to_string(), "failed: exit code 0", "{text}");
        }
    }
}

#[test]
fn names_and_codes_of_the_programs_own_are_no_limits() {
    let _alone = alone();
    for sandbox in sandboxes() {
        let of = |text: &str| sandbox.run(text).unwrap().ended.to_string();
        assert_eq!(
            of("class MemoryError(Exception): pass\nraise MemoryError"),
            "failed: MemoryError"
        );
        assert_eq!(of("raise MemoryError"), "memory");
        // 128 + SIGXCPU, which bubblewrap says of a program that the signal ended.
        if sandbox.backend() == Backend::Landlock {
            assert_eq!(of("import os; os._exit(152)"), "failed: exit code 152");
        }
    }
}

#[test]
fn what_was_killed_runs_once_more_and_then_it_was_its_own_doing() {
    let _alone = alone();
    let kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)";
    for sandbox in sandboxes() {
        let programs = [kill, "x = 1", kill, "x = 2"].map(str::to_string);
        let runs = sandbox.run_all(&programs).unwrap();
        let ended: Vec<String> = runs.iter().map(|run| run.ended.to_string()).collect();
        let killed = "failed: signal 9";
        assert_eq!(ended, [killed, "finished", killed, "finished"]);
        assert!(runs[0].killed && !runs[1].killed);
    }
}

#[test]
fn a_program_that_draws_draws_the_same_in_every_run() {
    let _alone = alone();
    let fixed = Command::new("setarch").args(["-R", "true"]).output();
    let fixed = fixed.is_ok_and(|output| output.status.success());
    let mut text =
        "import random\nprint(random.random(), random.sample(range(99), 9))\n".to_string();
    // A container may not allow that addresses stay; sets of objects are in their order.
    if fixed {
        text += "print(id(text := object()), {object() for _ in range(9)})\n";
    }
    for sandbox in sandboxes() {
        let programs = vec![text.clone(); 4];
        let runs = sandbox.run_all(&programs).unwrap();
        for run in &runs {
            assert_eq!(run.ended, Ended::Finished, "{}", run.errors);
            assert_eq!(run.output, runs[0].output);
        }
    }
}

#[test]
fn as_many_threads_as_a_program_may_have_fit_into_its_memory() {
    let _alone = alone();
    let text = r"
import threading
gate = threading.Barrier(60)
def work():
    gate.wait()
    sum([bytes(1000) for _ in range(1000)] == [] for _ in range(3))
threads = [threading.Thread(target=work, daemon=True) for _ in range(60)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
";
    for backend in backends() {
        let sandbox = Sandbox::by(backend, harness(), Limits::default()).unwrap();
        let run = sandbox.run(text).unwrap();
        assert_eq!(run.ended, Ended::Finished, "{backend}: {}", run.errors);
    }
}
