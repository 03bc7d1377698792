//! What is asked of the hub.
use super::{
    Event, Kind, Repo, Result,
    fault::{Fault, Patience, Refusal},
    tree::{Listed, Tree},
};
use hf_hub::{HFClient, HFClientSync, HFError, split_id};
use reqwest::{
    StatusCode, Url,
    blocking::{self, Response},
    header::{CONTENT_RANGE, HeaderMap, LINK, RANGE},
};
use std::{env, fs, time::Duration};

/// A connection to the hub, for one repository.
pub(super) struct Client {
    pub repo: Repo,
    hub: HFClientSync,
    http: blocking::Client,
    endpoint: String,
    token: Option<String>,
}

/// The rest of a file, from a byte on.
pub(super) struct Rest {
    /// Where it begins: not where it was asked to where the server sends files from their beginning alone.
    pub start: u64,
    pub body: Response,
}

/// How long a connection may take, or say nothing.
const CONNECT: Duration = Duration::from_secs(10);

impl Client {
    pub fn new(repo: &Repo) -> Result<Self> {
        let token = token();
        let silence = env::var("HF_HUB_DOWNLOAD_TIMEOUT").ok();
        let silence = silence.and_then(|s| s.trim().parse().ok()).unwrap_or(10);
        let silence = Duration::from_secs(silence);
        let agent = concat!("harness/", env!("CARGO_PKG_VERSION"));
        let http = reqwest::Client::builder()
            .user_agent(agent)
            .connect_timeout(CONNECT)
            .read_timeout(silence);
        let mut hub = HFClient::builder()
            .client(http.build().map_err(|e| repo.wrong(innermost(&e)))?)
            // It would ask again at once, whatever the hub says of waiting.
            .retry_max_attempts(0);
        if let Some(token) = &token {
            hub = hub.token(token);
        }
        let endpoint = |e: HFError| repo.wrong(format!("HF_ENDPOINT or HF_TOKEN: {e}"));
        let hub = hub.build().map_err(endpoint)?;
        let http = blocking::Client::builder()
            .user_agent(agent)
            .connect_timeout(CONNECT)
            .timeout(silence);
        Ok(Client {
            endpoint: hub.endpoint().to_string(),
            hub: HFClientSync::from_inner(hub).map_err(endpoint)?,
            http: http.build().map_err(|e| repo.wrong(innermost(&e)))?,
            token,
            repo: repo.clone(),
        })
    }

    /// The commit that the revision stands for.
    pub fn commit(&self, say: &mut dyn FnMut(Event)) -> std::result::Result<String, Fault> {
        let mut patience = Patience::default();
        let (owner, name) = split_id(&self.repo.id);
        let revision = &self.repo.revision;
        loop {
            let asked = match self.repo.kind {
                Kind::Model => {
                    let repo = self.hub.model(owner, name);
                    repo.info().revision(revision).send().map(|info| info.sha)
                }
                Kind::Dataset => {
                    let repo = self.hub.dataset(owner, name);
                    repo.info().revision(revision).send().map(|info| info.sha)
                }
            };
            match asked {
                Ok(Some(commit)) if super::cache::is_commit(&commit) => return Ok(commit),
                Ok(commit) => {
                    return Err(Fault::Final(format!(
                        "{} says that {revision} is the commit {commit:?}, which is none; is it a hub?",
                        self.endpoint
                    )));
                }
                Err(error) => patience.wait(self.fault(error), say)?,
            }
        }
    }

    /// All files of a commit.
    pub fn tree(
        &self,
        commit: &str,
        say: &mut dyn FnMut(Event),
    ) -> std::result::Result<Tree, Fault> {
        let mut url = self.url(&["api", self.repo.plural()], &["tree", commit])?;
        url.set_query(Some("recursive=true"));
        let mut listing: Vec<Listed> = Vec::new();
        let mut next = Some(url);
        while let Some(url) = next {
            let mut patience = Patience::default();
            let (page, headers) = loop {
                match self.page(url.clone()) {
                    Ok(page) => break page,
                    Err(fault) => patience.wait(fault, say)?,
                }
            };
            listing.extend(page);
            next = next_page(&headers);
            // The token goes to the hub alone.
            if next
                .as_ref()
                .is_some_and(|next| next.origin() != url.origin())
            {
                return Err(Fault::Final(
                    "the hub's listing goes on at another host".into(),
                ));
            }
        }
        Tree::of_listing(listing).map_err(Fault::Final)
    }

    fn page(&self, url: Url) -> std::result::Result<(Vec<Listed>, HeaderMap), Fault> {
        let response = self.get(url, "listing of its files", None)?;
        let headers = response.headers().clone();
        let text = response.text().map_err(|e| unreachable(&e))?;
        let page = serde_json::from_str(&text);
        let page = page.map_err(|e| Fault::Final(format!("the hub's listing is none: {e}")))?;
        Ok((page, headers))
    }

    /// A file of a commit from byte `from` on, of which it is to have `size`.
    pub fn file(
        &self,
        commit: &str,
        name: &str,
        from: u64,
        size: u64,
    ) -> std::result::Result<Rest, Fault> {
        let prefix: &[&str] = match self.repo.kind {
            Kind::Model => &[],
            Kind::Dataset => &["datasets"],
        };
        let parts: Vec<&str> = ["resolve", commit]
            .into_iter()
            .chain(name.split('/'))
            .collect();
        let url = self.url(prefix, &parts)?;
        let body = self.get(url, name, Some(from))?;
        let mut start = 0;
        let mut whole = body.content_length();
        if body.status() == StatusCode::PARTIAL_CONTENT {
            // bytes FROM-TO/WHOLE
            let range = body
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|r| r.to_str().ok());
            let range = range.and_then(|r| r.strip_prefix("bytes ")?.split_once('/'));
            let begins = range.and_then(|(part, _)| part.split('-').next()?.parse().ok());
            whole = range.and_then(|(_, whole)| whole.parse().ok());
            start = begins.unwrap_or(from);
        }
        match whole {
            Some(other) if other != size => Err(Fault::Busy(
                format!(
                    "it has {other} bytes where it is sent from, and {size} in the hub's listing"
                ),
                None,
            )),
            _ => Ok(Rest { start, body }),
        }
    }

    fn get(&self, url: Url, what: &str, from: Option<u64>) -> std::result::Result<Response, Fault> {
        let hub = url.origin();
        let mut request = self.http.get(url);
        if let Some(token) = &self.token {
            // reqwest takes it away where a redirect leads to another host, as for large files.
            request = request.bearer_auth(token);
        }
        if let Some(from) = from.filter(|&from| from > 0) {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.send().map_err(|e| unreachable(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            let what = "it has fewer bytes where it is sent from than in the hub's listing";
            return Err(Fault::Busy(what.into(), None));
        }
        if response.url().origin() != hub {
            // Where large files lie, addresses end after some time; the hub gives a new one.
            let host = response.url().host_str().unwrap_or_default();
            return Err(Fault::Busy(format!("{host} answers {status}"), None));
        }
        let mut refusal = Refusal::of(status, response.headers());
        if refusal.message.is_none() {
            // {"error": "..."}
            let body: Option<serde_json::Value> = response.json().ok();
            refusal.message = body.and_then(|b| Some(b["error"].as_str()?.to_string()));
        }
        Err(refusal.fault(&self.repo, what, &self.endpoint, self.token.is_some()))
    }

    /// `ENDPOINT/BEFORE/ORG/NAME/AFTER`, each part escaped.
    fn url(&self, before: &[&str], after: &[&str]) -> std::result::Result<Url, Fault> {
        let wrong = |what: String| Fault::Final(format!("HF_ENDPOINT = {}: {what}", self.endpoint));
        let mut url = Url::parse(&self.endpoint).map_err(|e| wrong(e.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| wrong("no address of a hub".into()))?
            .pop_if_empty()
            .extend(before)
            .extend(self.repo.id.split('/'))
            .extend(after);
        Ok(url)
    }

    fn fault(&self, error: HFError) -> Fault {
        let (context, retry_after) = match error {
            HFError::RateLimited {
                retry_after,
                context,
            } => (context, retry_after),
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::RepoNotFound {
                context: Some(context),
                ..
            }
            | HFError::RevisionNotFound {
                context: Some(context),
                ..
            } => (context, None),
            HFError::Request { source, .. } => return unreachable(&source),
            other => return Fault::Final(other.to_string()),
        };
        let refusal = Refusal {
            status: context.status.as_u16(),
            code: context.error_code,
            message: context.server_message,
            retry_after,
        };
        let what = "repository or revision";
        refusal.fault(&self.repo, what, &self.endpoint, self.token.is_some())
    }
}

/// The token that the hub is shown: `HF_TOKEN`, or what a login left in a file.
fn token() -> Option<String> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    if set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() && set("HF_TOKEN").is_none() {
        return None;
    }
    let file = set("HF_TOKEN_PATH").map_or_else(|| hf_hub::hf_home().join("token"), Into::into);
    let token = set("HF_TOKEN").or_else(|| fs::read_to_string(file).ok())?;
    Some(token.trim().to_string()).filter(|token| !token.is_empty())
}

/// The address of a listing's next page: `Link: <ADDRESS>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<Url> {
    let links = headers.get(LINK)?.to_str().ok()?;
    let next = links
        .split(',')
        .find(|link| link.contains("rel=\"next\""))?;
    let (_, address) = next.split_once('<')?;
    Url::parse(address.split_once('>')?.0).ok()
}

/// A connection that could not be made, or ended.
pub(super) fn unreachable(error: &reqwest::Error) -> Fault {
    let host = error.url().and_then(Url::host_str).unwrap_or("the hub");
    let port = error
        .url()
        .and_then(Url::port)
        .map_or(String::new(), |port| format!(":{port}"));
    Fault::Unreachable(match error.is_connect() {
        true => format!("{host}{port} cannot be reached: {}", innermost(error)),
        false => format!(
            "the connection to {host}{port} failed: {}",
            innermost(error)
        ),
    })
}

/// What is at the bottom of an error.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}
