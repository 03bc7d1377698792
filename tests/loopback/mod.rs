//! A hub on this machine, which speaks as much of the Hugging Face Hub's API as fetching needs, and misbehaves on
//! demand. Large files come from another port, as from the hub's CDN.
pub mod fetching;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// A request that came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Whether it came to the port of the large files.
    pub to_cdn: bool,
}

/// What is done with a request in the place of what is right.
#[allow(dead_code, reason = "each test program uses a part of it")]
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, with headers and a body.
    Status(u16, Vec<(&'static str, String)>, &'static str),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing more is said after so many bytes, for this long.
    Stall(usize, Duration),
    /// The body is this one.
    Body(Vec<u8>),
    /// The whole file comes, whatever range was asked for.
    NoRange,
}

type Rule = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// A file of a repository.
#[derive(Clone)]
struct File {
    bytes: Vec<u8>,
    is_large: bool,
    /// What the listing says of its length.
    listed: u64,
}

#[derive(Default)]
struct State {
    /// Files by repository (`models/org/name`), commit and name.
    files: BTreeMap<String, BTreeMap<String, BTreeMap<String, File>>>,
    /// Commits by repository and revision.
    revisions: BTreeMap<(String, String), String>,
    requests: Vec<Request>,
    rules: Vec<Rule>,
}

/// The hub. It ends with the test.
#[derive(Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    pub endpoint: String,
    cdn: SocketAddr,
}

/// Entries of a page of the listing.
const PAGE: usize = 4;

#[allow(dead_code, reason = "each test program uses a part of it")]
impl Hub {
    pub fn start() -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let cdn = TcpListener::bind("127.0.0.1:0").unwrap();
        let all = Hub {
            state: Arc::default(),
            endpoint: format!("http://{}", hub.local_addr().unwrap()),
            cdn: cdn.local_addr().unwrap(),
        };
        for (listener, to_cdn) in [(hub, false), (cdn, true)] {
            let all = all.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let all = all.clone();
                    // A client that went away is none of the hub's business.
                    thread::spawn(move || all.serve(stream, to_cdn));
                }
            });
        }
        all
    }

    /// Adds a file to a commit of `models/org/name` or `datasets/org/name`, stored in LFS where it `is_large`.
    pub fn add(&self, repo: &str, commit: &str, name: &str, bytes: &[u8], is_large: bool) -> &Self {
        let file = File {
            bytes: bytes.to_vec(),
            is_large,
            listed: bytes.len() as u64,
        };
        let mut state = self.state.lock().unwrap();
        let commits = state.files.entry(repo.into()).or_default();
        let files = commits.entry(commit.into()).or_default();
        files.insert(name.into(), file);
        self
    }

    /// The listing says another length of a file.
    pub fn list_as(&self, repo: &str, commit: &str, name: &str, listed: u64) {
        let mut state = self.state.lock().unwrap();
        let commits = state.files.get_mut(repo).unwrap();
        let files = commits.get_mut(commit).unwrap();
        files.get_mut(name).unwrap().listed = listed;
    }

    /// Lets a revision stand for a commit.
    pub fn point(&self, repo: &str, revision: &str, commit: &str) -> &Self {
        let mut state = self.state.lock().unwrap();
        state
            .revisions
            .insert((repo.into(), revision.into()), commit.into());
        self
    }

    /// Requests are handled by `rule` where it gives a fault.
    pub fn misbehave(&self, rule: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        self.state.lock().unwrap().rules.push(Box::new(rule));
    }

    /// The first `times` requests whose path contains `part` meet this fault.
    pub fn fail(&self, part: &'static str, times: usize, fault: Fault) {
        let mut left = times;
        self.misbehave(move |request| {
            let meant = left > 0 && request.path.contains(part);
            left -= usize::from(meant);
            meant.then(|| fault.clone())
        });
    }

    /// All is right again.
    pub fn behave(&self) {
        self.state.lock().unwrap().rules.clear();
    }

    /// The requests whose path contains `part` since last asked for any.
    pub fn requests(&self, part: &str) -> Vec<Request> {
        let all = std::mem::take(&mut self.state.lock().unwrap().requests);
        all.into_iter().filter(|r| r.path.contains(part)).collect()
    }

    fn serve(&self, mut stream: TcpStream, to_cdn: bool) -> Option<()> {
        let request = read(&stream, to_cdn)?;
        let fault = {
            let mut state = self.state.lock().ok()?;
            state.requests.push(request.clone());
            state.rules.iter_mut().find_map(|rule| rule(&request))
        };
        let mut answer = match &fault {
            Some(Fault::Status(status, headers, body)) => {
                let mut answer = Answer::new(*status, body.as_bytes());
                answer
                    .headers
                    .extend(headers.iter().map(|(k, v)| (k.to_string(), v.clone())));
                answer
            }
            _ => self.answer(&request, matches!(fault, Some(Fault::NoRange))),
        };
        if let Some(Fault::Body(body)) = &fault {
            answer.body = body.clone();
        }
        let length = answer.body.len();
        let mut head = format!(
            "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {length}\r\n",
            answer.status
        );
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if request.method == "HEAD" {
            return Some(());
        }
        let sent = match fault {
            Some(Fault::Cut(n) | Fault::Stall(n, _)) => n.min(length),
            _ => length,
        };
        stream.write_all(&answer.body[..sent]).ok()?;
        if let Some(Fault::Stall(_, time)) = fault {
            thread::sleep(time);
        }
        stream.shutdown(Shutdown::Both).ok()
    }

    fn answer(&self, request: &Request, whole: bool) -> Answer {
        let state = self.state.lock().unwrap();
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["blob", hash] if request.to_cdn => {
                let commits = state.files.values().flat_map(BTreeMap::values);
                let file = commits
                    .flat_map(BTreeMap::values)
                    .find(|f| f.is_large && sha256(&f.bytes) == hash);
                match file {
                    Some(file) => body(&file.bytes, request, whole),
                    None => Answer::new(403, b"no such blob"),
                }
            }
            ["api", kind, org, name, "revision", revision] => {
                let repo = format!("{kind}/{org}/{name}");
                if !state.files.contains_key(&repo) {
                    return refusal(401, "RepoNotFound", "Repository not found");
                }
                let known = state.revisions.get(&(repo.clone(), revision.into()));
                let commit = known.cloned().or_else(|| {
                    let commits = &state.files[&repo];
                    commits.contains_key(revision).then(|| revision.to_string())
                });
                let Some(commit) = commit else {
                    return refusal(404, "RevisionNotFound", "Invalid rev id");
                };
                let names = state.files[&repo][&commit].keys();
                let siblings: Vec<String> = names
                    .map(|n| format!(r#"{{"rfilename": "{n}"}}"#))
                    .collect();
                let (id, siblings) = (format!("{org}/{name}"), siblings.join(","));
                Answer::new(
                    200,
                    format!(r#"{{"_id": "1", "id": "{id}", "sha": "{commit}", "siblings": [{siblings}]}}"#).as_bytes(),
                )
            }
            ["api", kind, org, name, "tree", commit] => {
                let repo = format!("{kind}/{org}/{name}");
                let Some(files) = state.files.get(&repo).and_then(|r| r.get(commit)) else {
                    return refusal(404, "RevisionNotFound", "Invalid rev id");
                };
                let from = query
                    .split("cursor=")
                    .nth(1)
                    .and_then(|c| c.parse().ok())
                    .unwrap_or(0);
                let page = files
                    .iter()
                    .skip(from)
                    .take(PAGE)
                    .map(|(name, file)| listed(name, file));
                let page: Vec<String> = page.collect();
                let mut answer = Answer::new(200, format!("[{}]", page.join(",")).as_bytes());
                let next = from + PAGE;
                if next < files.len() {
                    let url = format!("{}{path}?recursive=true&cursor={next}", self.endpoint);
                    answer
                        .headers
                        .push(("Link".into(), format!("<{url}>; rel=\"next\"")));
                }
                answer
            }
            ["datasets", org, name, "resolve", commit, ..] => {
                let file = parts[5..].join("/");
                self.resolve(
                    &state,
                    &format!("datasets/{org}/{name}"),
                    commit,
                    &file,
                    request,
                    whole,
                )
            }
            [org, name, "resolve", commit, ..] => {
                let file = parts[4..].join("/");
                self.resolve(
                    &state,
                    &format!("models/{org}/{name}"),
                    commit,
                    &file,
                    request,
                    whole,
                )
            }
            _ => Answer::new(404, b"no such page"),
        }
    }

    fn resolve(
        &self,
        state: &State,
        repo: &str,
        commit: &str,
        file: &str,
        request: &Request,
        whole: bool,
    ) -> Answer {
        let commit = match state.revisions.get(&(repo.into(), commit.into())) {
            Some(commit) => commit,
            None => commit,
        };
        let found = state.files.get(repo).and_then(|r| r.get(commit)?.get(file));
        let Some(found) = found else {
            return refusal(404, "EntryNotFound", "Entry not found");
        };
        let mut answer = match found.is_large {
            true => Answer::new(302, b"Found. Redirecting"),
            false => body(&found.bytes, request, whole),
        };
        answer.headers.push(("X-Repo-Commit".into(), commit.into()));
        if found.is_large {
            let hash = sha256(&found.bytes);
            answer
                .headers
                .push(("X-Linked-Etag".into(), format!("\"{hash}\"")));
            answer
                .headers
                .push(("X-Linked-Size".into(), found.bytes.len().to_string()));
            answer.headers.push((
                "Location".into(),
                format!("http://{}/blob/{hash}", self.cdn),
            ));
        } else {
            answer
                .headers
                .push(("ETag".into(), format!("\"{}\"", git_hash(&found.bytes))));
        }
        answer
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: &[u8]) -> Self {
        Answer {
            status,
            headers: Vec::new(),
            body: body.to_vec(),
        }
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let mut answer = Answer::new(status, format!(r#"{{"error": "{message}"}}"#).as_bytes());
    answer.headers.push(("X-Error-Code".into(), code.into()));
    answer
        .headers
        .push(("X-Error-Message".into(), message.into()));
    answer
}

/// A file, or the range of it that is asked for.
fn body(bytes: &[u8], request: &Request, whole: bool) -> Answer {
    let range = request.headers.get("range").filter(|_| !whole);
    let from = range.and_then(|r| {
        r.strip_prefix("bytes=")?
            .split('-')
            .next()?
            .parse::<usize>()
            .ok()
    });
    let Some(from) = from else {
        return Answer::new(200, bytes);
    };
    if from >= bytes.len() {
        return Answer::new(416, b"");
    }
    let mut answer = Answer::new(206, &bytes[from..]);
    let (last, length) = (bytes.len() - 1, bytes.len());
    answer.headers.push((
        "Content-Range".into(),
        format!("bytes {from}-{last}/{length}"),
    ));
    answer
}

fn listed(name: &str, file: &File) -> String {
    let (hash, size) = (git_hash(&file.bytes), file.listed);
    let lfs = match file.is_large {
        true => format!(
            r#", "lfs": {{"oid": "{}", "size": {size}, "pointerSize": 132}}"#,
            sha256(&file.bytes)
        ),
        false => String::new(),
    };
    format!(r#"{{"type": "file", "oid": "{hash}", "size": {size}, "path": "{name}"{lfs}}}"#)
}

fn read(stream: &TcpStream, to_cdn: bool) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_string());
    }
    Some(Request {
        method,
        path,
        headers,
        to_cdn,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash by which LFS knows a file.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The hash by which git knows a file.
pub fn git_hash(bytes: &[u8]) -> String {
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}
