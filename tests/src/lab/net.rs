//! The lab's network: a switch in a namespace of its own, and a cable to each host.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use super::shell::{attempt, run};

/// The table of rules that cut links.
const CUTS: &str = "cuts";

#[derive(Debug)]
pub(crate) struct Net {
    name: String,
}

/// Where a host is.
pub(crate) fn address(number: usize, port: u16) -> SocketAddr {
    let last = u8::try_from(number).unwrap_or(u8::MAX);
    SocketAddr::from((Ipv4Addr::new(10, 77, 0, last), port))
}

impl Net {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    pub(crate) fn namespace(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    fn lan(&self) -> String {
        format!("{}-lan", self.name)
    }

    pub(crate) fn make(&self) -> Result<()> {
        let lan = self.lan();
        run("ip", &["netns", "add", &lan])?;
        self.ip(&["link", "add", "lan", "type", "bridge"])?;
        // What is bridged here is not this machine's traffic: its rules for addresses have no say.
        attempt(
            "nsenter",
            &[
                &format!("--net=/run/netns/{lan}"),
                "sysctl",
                "-qw",
                "net.bridge.bridge-nf-call-iptables=0",
            ],
        );
        self.ip(&["addr", "add", "10.77.0.254/24", "dev", "lan"])?;
        self.ip(&["link", "set", "lan", "up"])?;
        self.ip(&["link", "set", "lo", "up"])
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        let lan = self.lan();
        let args: Vec<&str> = ["-n", &lan].into_iter().chain(args.iter().copied()).collect();
        run("ip", &args).map(drop)
    }

    /// Makes a host's namespace and plugs its cable in.
    pub(crate) fn add(&self, number: usize) -> Result<()> {
        let (namespace, cable) = (self.namespace(number), format!("h{number}"));
        let own = address(number, 0).ip();
        run("ip", &["netns", "add", &namespace])?;
        self.ip(&[
            "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ])?;
        self.ip(&["link", "set", &cable, "master", "lan", "up"])?;
        let inside = |args: &[&str]| {
            let args: Vec<&str> =
                ["-n", &namespace].into_iter().chain(args.iter().copied()).collect();
            run("ip", &args).map(drop)
        };
        // A host keeps its network card when it boots: to another one its neighbours would go on sending for half a minute.
        let card = format!("02:00:0a:4d:00:{number:02x}");
        inside(&["link", "set", "eth0", "address", &card])?;
        inside(&["addr", "add", &format!("{own}/24"), "dev", "eth0"])?;
        inside(&["link", "set", "lo", "up"])?;
        inside(&["link", "set", "eth0", "up"])?;
        inside(&["route", "add", "default", "via", "10.77.0.254"])
    }

    /// A host's namespace as a boot leaves it.
    pub(crate) fn renew(&self, number: usize) -> Result<()> {
        attempt("ip", &["-n", &self.lan(), "link", "del", &format!("h{number}")]);
        run("ip", &["netns", "del", &self.namespace(number)])?;
        self.add(number)
    }

    pub(crate) fn set_link(&self, number: usize, up: bool) -> Result<()> {
        self.ip(&["link", "set", &format!("h{number}"), if up { "up" } else { "down" }])
    }

    pub(crate) fn cut(&self, from: usize, to: usize) -> Result<()> {
        self.nft(&format!(
            "add table bridge {CUTS}
             add chain bridge {CUTS} pass {{ type filter hook forward priority 0; }}
             add rule bridge {CUTS} pass iifname h{from} oifname h{to} drop"
        ))
    }

    pub(crate) fn heal(&self) -> Result<()> {
        self.nft(&format!("add table bridge {CUTS}\ndelete table bridge {CUTS}"))
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let namespace = format!("--net=/run/netns/{}", self.lan());
        run("nsenter", &[&namespace, "nft", rules]).map(drop)
    }

    /// The file of the desk's namespace.
    pub(crate) fn desk(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.lan())
    }

    pub(crate) fn can_connect(&self, number: usize, port: u16) -> bool {
        let asked = self.at_desk(move || {
            TcpStream::connect_timeout(&address(number, port), Duration::from_millis(500))
        });
        matches!(asked, Ok(Ok(_)))
    }

    /// Does something in the desk's namespace, on a thread of its own since a namespace belongs to a thread.
    pub(crate) fn at_desk<R: Send>(&self, act: impl FnOnce() -> R + Send) -> Result<R> {
        let desk = self.desk();
        let acted = thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(&desk)?;
                    Ok::<R, anyhow::Error>(act())
                })
                .join()
        });
        acted.map_err(|_panic| anyhow!("a thread at the desk panicked"))?
    }
}

/// Takes the calling thread into a network namespace.
pub(super) fn enter(namespace: &std::path::Path) -> Result<()> {
    let file = File::open(namespace)
        .with_context(|| format!("there is no namespace {}", namespace.display()))?;
    setns(file.as_fd(), CloneFlags::CLONE_NEWNET).context("cannot enter a namespace")
}
