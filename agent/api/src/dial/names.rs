//! Addresses of names, asked of the resolvers that the host is configured with.
//!
//! A resolver keeps what it learnt for as long as the answer says. It is made anew after a failure, since it reads the host's
//! configuration only once, and an agent often starts before the host's network does. When no resolver answers, the last
//! addresses of a name are tried: a dead resolver must not cut a mesh.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use hickory_resolver::TokioResolver;

use super::DialError;

/// Names whose last addresses are kept: more than members, in the largest mesh.
const KEPT_MAX: usize = 4096;

/// What is known of names.
#[derive(Default)]
pub(crate) struct Names(Mutex<Known>);

#[derive(Default)]
struct Known {
    resolver: Option<TokioResolver>,
    last: BTreeMap<String, Vec<SocketAddr>>,
}

impl Names {
    /// The addresses behind `host:port`.
    pub(crate) async fn resolve(&self, address: &str) -> Result<Vec<SocketAddr>, DialError> {
        if let Ok(literal) = address.parse() {
            return Ok(vec![literal]);
        }
        let malformed = || DialError::Address(address.to_owned());
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse::<u16>().map_err(|_not_a_port| malformed())?;
        match self.look_up(host).await {
            Ok(ips) => {
                let found: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
                self.keep(address, &found);
                Ok(found)
            }
            Err(reason) => {
                let last = self.known(|known| known.last.get(address).cloned());
                last.ok_or_else(|| DialError::Name { host: host.to_owned(), reason })
            }
        }
    }

    fn known<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, address: &str, found: &[SocketAddr]) {
        self.known(|known| {
            if known.last.len() < KEPT_MAX || known.last.contains_key(address) {
                known.last.insert(address.to_owned(), found.to_vec());
            }
        });
    }

    async fn look_up(&self, host: &str) -> Result<Vec<std::net::IpAddr>, String> {
        let resolver = match self.known(|known| known.resolver.clone()) {
            Some(resolver) => resolver,
            None => TokioResolver::builder_tokio()
                .and_then(hickory_resolver::ResolverBuilder::build)
                .map_err(|error| error.to_string())?,
        };
        let found = resolver.lookup_ip(host).await;
        self.known(|known| known.resolver = found.is_ok().then_some(resolver));
        let ips: Vec<_> = found.map_err(|error| error.to_string())?.iter().collect();
        if ips.is_empty() { Err("it has no address".to_owned()) } else { Ok(ips) }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    //! Literals need no resolver, and faults say what they are about.

    use super::Names;

    #[tokio::test]
    async fn literals_are_taken_as_they_are() {
        let names = Names::default();
        for literal in ["127.0.0.1:80", "[::1]:80"] {
            let found = names.resolve(literal).await.unwrap();
            assert_eq!(found, [literal.parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused_in_words() {
        let names = Names::default();
        for text in ["", "host", "host:port", "host:70000"] {
            let error = names.resolve(text).await.unwrap_err();
            assert_eq!(error.to_string(), format!("{text:?} is not written host:port"));
        }
    }

    #[tokio::test]
    async fn the_last_addresses_serve_when_no_resolver_answers() {
        let names = Names::default();
        let last = ["192.0.2.1:80".parse().unwrap()];
        // Reserved names never resolve (RFC 6761).
        names.keep("agent.invalid:80", &last);
        assert_eq!(names.resolve("agent.invalid:80").await.unwrap(), last);
    }
}
