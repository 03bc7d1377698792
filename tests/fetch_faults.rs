//! `harness fetch` against a hub that misbehaves: every fault ends in a retry that works or in one line, and nothing
//! half-written is ever taken for whole.
mod loopback;

use loopback::{
    Fault,
    fetching::{FIRST, MODEL, WEIGHTS, Work, noise},
    sha256,
};
use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_busy_hub_is_asked_again_when_it_says() {
    let work = Work::new();
    let busy = |seconds: u32| {
        let headers = vec![("Retry-After", seconds.to_string())];
        Fault::Status(429, headers, "")
    };
    work.hub.fail("/revision/", 1, busy(2));
    work.hub.fail("/resolve/", 1, busy(1));
    let began = Instant::now();
    let error = work.fetched();
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert!(
        error.contains("429, too many requests; again in 2 s"),
        "{error}"
    );
    let work = Work::new();
    work.hub.fail("/tree/", 1, busy(3600));
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: the hub answers 429, too many requests, and asks to come back in 3600 s; run the same command again then");
}

#[test]
fn an_ailing_hub_is_borne_for_a_while() {
    let work = Work::new();
    for part in ["/revision/", "/tree/", "/resolve/", "/blob/"] {
        work.hub
            .fail(part, 1, Fault::Status(503, vec![], "try later"));
    }
    work.fetched();
    let work = Work::new();
    work.hub
        .fail("/resolve/", 100, Fault::Status(500, vec![], ""));
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: config.json: the hub answers 500, asked for config.json (5 times)");
    assert_eq!(work.hub.requests("/resolve/").len(), 5);
}

#[test]
fn a_connection_that_breaks_is_gone_on_with() {
    let work = Work::new();
    work.hub.fail("/blob/", 1, Fault::Cut(100_000));
    work.hub
        .fail("/blob/", 1, Fault::Stall(50_000, Duration::from_secs(5)));
    work.hub.fail("/tree/", 1, Fault::Cut(20));
    let error = work.fetched();
    assert!(
        error.contains("broke after 100000 of 300000 bytes"),
        "{error}"
    );
    assert_eq!(
        work.weights_from(),
        [
            None,
            Some("bytes=100000-".into()),
            Some("bytes=150000-".into())
        ]
    );
    // Of a server that knows no ranges, from the beginning.
    let work = Work::new();
    work.hub.fail("/blob/", 1, Fault::Cut(100_000));
    work.hub.fail("/blob/", 1, Fault::NoRange);
    work.fetched();
    assert_eq!(work.weights_from(), [None, Some("bytes=100000-".into())]);
    // One that sends nothing at all is given up, and what came before stays for the next time.
    let work = Work::new();
    work.hub.fail("/blob/", 1, Fault::Cut(100_000));
    work.hub.fail("/blob/", 100, Fault::Cut(0));
    let error = work.refused();
    assert!(
        error.starts_with(
            "org/tiny@main: model.safetensors: the connection broke after 100000 of 300000 bytes"
        ),
        "{error}"
    );
    assert!(error.ends_with("(5 times)"), "{error}");
    work.hub.behave();
    work.hub.requests("");
    work.fetched();
    assert_eq!(work.weights_from(), [Some("bytes=100000-".into())]);
}

#[test]
fn lengths_and_hashes_are_checked() {
    // Other bytes in the right length, once.
    let work = Work::new();
    work.hub.fail("/blob/", 1, Fault::Body(noise(WEIGHTS, 3)));
    let error = work.fetched();
    assert!(
        error.contains("model.safetensors came with a wrong hash; downloading it again"),
        "{error}"
    );
    // A small file, always.
    let work = Work::new();
    work.hub.fail(
        "resolve/1111111111111111111111111111111111111111/config.json",
        100,
        Fault::Body(b"[]".to_vec()),
    );
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: config.json: has the hash 0637a088a01e8ddab3bf3fa98dbe804cbde1a0dc as it is sent, twice, and 9e26dfeeb6e641a33dae4961196235bdb965b21b in the hub's listing; nothing of it was kept");
    assert!(!work.snapshot(FIRST).exists());
    // The listing says another length than the server of the file.
    let work = Work::new();
    work.hub
        .list_as(MODEL, FIRST, "model.safetensors", WEIGHTS as u64 + 1);
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: model.safetensors: it has 300000 bytes where it is sent from, and 300001 in the hub's listing (5 times)");
    assert!(!work.blob().exists());
}

#[test]
fn what_came_of_another_file_is_found_out() {
    let work = Work::new();
    fs::create_dir_all(work.cache().join("blobs")).unwrap();
    // As long as the file, longer, and a wrong beginning.
    for length in [WEIGHTS, WEIGHTS + 7, 1000] {
        fs::write(work.partial(), noise(length, 9)).unwrap();
        work.fetched();
        fs::remove_dir_all(work.snapshot(FIRST)).unwrap();
        fs::remove_file(work.blob()).unwrap();
    }
    // A blob that lost its end has its name and is not believed.
    fs::write(work.blob(), &noise(WEIGHTS, 2)[..1000]).unwrap();
    work.fetched();
}

#[test]
fn a_full_disk_is_said_and_what_came_is_kept() {
    let work = Work::new();
    work.hub.list_as(MODEL, FIRST, "model.safetensors", 1 << 60);
    let error = work.refused();
    assert!(error.contains("4 files need 1152921504606851"), "{error}");
    assert!(
        error.ends_with("make room, or put the cache elsewhere with HF_HUB_CACHE"),
        "{error}"
    );
    assert!(work.hub.requests("/resolve/").is_empty());

    let work = Work::new();
    let mut command = work.harness(&["fetch", "org/tiny"]);
    // SAFETY: between fork and exec, only these two calls.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: 65536,
                rlim_max: 65536,
            };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let error = work.refused_by(command);
    let hash = sha256(&noise(WEIGHTS, 2));
    insta::assert_snapshot!(error.replace(&hash, "HASH"), @"org/tiny@main: model.safetensors: WORK/hf/hub/models--org--tiny/blobs/HASH.incomplete cannot be written (File too large (os error 27)); what came stays there, and the same command goes on from it: make room, or put the cache elsewhere with HF_HUB_CACHE");
    assert_eq!(fs::metadata(work.partial()).unwrap().size(), 65536);
    work.hub.requests("");
    work.fetched();
    assert_eq!(work.weights_from(), [Some("bytes=65536-".into())]);
}

#[test]
fn a_killed_fetch_is_gone_on_with() {
    let work = Work::new();
    for came in [70_000, 100_000] {
        work.hub
            .fail("/blob/", 1, Fault::Stall(came, Duration::from_secs(60)));
    }
    let mut total = 0;
    for came in [70_000, 100_000] {
        total += came;
        let mut command = work.harness(&["fetch", "org/tiny"]);
        command
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "60")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        while fs::metadata(work.partial()).map_or(0, |m| m.len()) < total {
            assert!(began.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!work.snapshot(FIRST).join("model.safetensors").exists());
        assert!(!work.blob().exists() && !work.cache().join("refs/main").exists());
    }
    work.fetched();
    assert_eq!(
        work.weights_from(),
        [
            None,
            Some("bytes=70000-".into()),
            Some("bytes=170000-".into())
        ]
    );
}

#[test]
fn two_that_fetch_at_once_download_once() {
    let work = Work::new();
    work.hub.misbehave(|request| {
        // Slow enough that they meet.
        if request.to_cdn {
            thread::sleep(Duration::from_millis(700));
        }
        None
    });
    thread::scope(|scope| {
        let one = scope.spawn(|| work.fetched());
        let two = scope.spawn(|| work.fetched());
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(work.weights_from().len(), 1);
}
