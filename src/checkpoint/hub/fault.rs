//! What can go wrong between the hub and here, and how long it is borne.
use super::{Event, Kind, Repo};
use reqwest::{StatusCode, header::HeaderMap};
use std::{fmt, time::Duration};

/// Why something did not come from the hub.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nobody answers, or the connection ended.
    Unreachable(String),
    /// The hub asks to come back, after this time where it says one.
    Busy(String, Option<Duration>),
    /// It will not come however often it is asked for.
    Final(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::Unreachable(what) | Fault::Busy(what, _) | Fault::Final(what) => {
                f.write_str(what)
            }
        }
    }
}

/// Waits before something is asked for again, where nobody says how long.
const WAITS: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// The longest wait that the hub may ask for; its limits count in windows of five minutes.
const LONGEST: Duration = Duration::from_secs(600);

/// How often something was tried in vain.
#[derive(Debug, Default)]
pub(super) struct Patience {
    tried: usize,
}

impl Patience {
    /// Waits before the next try.
    ///
    /// # Errors
    /// The fault, where there is to be no other try.
    pub fn wait(&mut self, fault: Fault, say: &mut dyn FnMut(Event)) -> Result<(), Fault> {
        let tries = |what: &str| format!("{what} ({} times)", WAITS.len() + 1);
        let usual = WAITS.get(self.tried).copied();
        let (what, wait) = match &fault {
            Fault::Final(_) => return Err(fault),
            Fault::Busy(what, Some(after)) if *after > LONGEST => {
                let seconds = after.as_secs();
                return Err(Fault::Final(format!(
                    "{what}, and asks to come back in {seconds} s; run the same command again then"
                )));
            }
            Fault::Busy(what, after) => match usual {
                Some(usual) => (what, after.unwrap_or(usual)),
                None => return Err(Fault::Busy(tries(what), *after)),
            },
            Fault::Unreachable(what) => match usual {
                Some(usual) => (what, usual),
                None => return Err(Fault::Unreachable(tries(what))),
            },
        };
        self.tried += 1;
        say(Event::Waits(wait, what));
        std::thread::sleep(wait);
        Ok(())
    }
}

/// What an answer that is no success says.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub status: u16,
    /// `X-Error-Code`: `RepoNotFound`, `GatedRepo` and so on.
    pub code: Option<String>,
    /// The hub's own words.
    pub message: Option<String>,
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Of an answer's status and headers.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_string());
        Refusal {
            status: status.as_u16(),
            code: text("x-error-code"),
            message: text("x-error-message"),
            retry_after: text("retry-after")
                .and_then(|after| after.trim().parse().ok())
                .map(Duration::from_secs),
        }
    }

    /// What it means for whoever asked for `what`: a file, or the repository itself.
    pub fn fault(self, repo: &Repo, what: &str, endpoint: &str, has_token: bool) -> Fault {
        let status = self.status;
        let kind = match repo.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        let page = format!("{endpoint}/{kind}{}", repo.id);
        let words = match &self.message {
            Some(message) => format!(" (the hub: {})", message.trim().replace('\n', " ")),
            None => String::new(),
        };
        let token = match has_token {
            true => {
                "the token in use (HF_TOKEN, or what `hf auth login` left) must be of an account that may read it"
            }
            false => "set HF_TOKEN to a token of an account that may read it",
        };
        let final_ = |text: String| Fault::Final(format!("{text}{words}"));
        match (status, self.code.as_deref()) {
            (401 | 403, Some("GatedRepo")) => final_(match has_token {
                true => format!(
                    "the repository is gated: accept its conditions on {page} with the account of your token, and wait until \
                     access is granted"
                ),
                false => format!(
                    "the repository is gated: accept its conditions on {page}, and set HF_TOKEN to a token of that account"
                ),
            }),
            (401 | 404, Some("RepoNotFound")) => final_(format!(
                "the hub has no such repository, or it is private; look at {page}; if it is private, {token}"
            )),
            (404, Some("RevisionNotFound")) => {
                final_(format!("the repository has no revision {}", repo.revision))
            }
            (404, Some("EntryNotFound")) => final_(format!("the repository has no file {what}")),
            (401, _) => final_(format!(
                "the hub wants to know who asks (401): {token}; its conditions, if it has any, are to be accepted on \
                 {page}"
            )),
            (403, _) => final_(format!(
                "the hub forbids it (403): accept the conditions on {page} if there are any; {token}"
            )),
            (404, _) => final_(format!(
                "the hub has no {what} there (404); check the names, on {page}"
            )),
            (429, _) => Fault::Busy(
                format!("the hub answers 429, too many requests{words}"),
                self.retry_after,
            ),
            (408 | 500..=599, _) => {
                let what = format!("the hub answers {status}, asked for {what}{words}");
                Fault::Busy(what, self.retry_after)
            }
            _ => final_(format!("the hub answers {status}, asked for {what}")),
        }
    }
}
