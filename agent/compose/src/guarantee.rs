//! `guarantee` and `lease` of `x-mesh`: what a service promises while nodes cannot hear each other.

use std::time::Duration;

use mesh_coordinator::lease::exclusive::Timing;
use mesh_coordinator::spec::{Deploy, Guarantee, Mode};

use crate::amount::duration;
use crate::report::{Fault, Report};
use crate::tree::quoted;
use crate::walk::{At, Table};

/// What a lease may be called by: for a quick network, for most, and for a slow one.
const PROFILES: [(&str, Duration); 3] = [
    ("lan-fast", Duration::from_secs(6)),
    ("default", Timing::DEFAULT_TTL),
    ("wan", Duration::from_secs(30)),
];

/// The guarantee that is written, and where; `None` when none is, or none that can be kept.
pub(crate) fn guarantee<'t>(
    mesh: &mut Table<'t>,
    deploy: &Deploy,
    report: &mut Report,
) -> Option<(Guarantee, At<'t>)> {
    let (given, lease) = (mesh.take("guarantee"), mesh.take("lease"));
    let is_exclusive = match &given {
        Some(at) => at.parse(word, report)?,
        None => false,
    };
    let ttl = match lease {
        Some(lease) if is_exclusive => ttl(&lease, report),
        Some(lease) => {
            let found = "a lease is for an exclusive service, and this one is not";
            let help = "write guarantee: exclusive beside it, or leave it out";
            lease.refuse_key(found, help, report);
            None
        }
        None => Some(Timing::DEFAULT_TTL),
    };
    let at = given?;
    if !is_exclusive {
        return Some((Guarantee::Available, at));
    }
    if deploy.mode == Mode::Global {
        let found = "a global service cannot be exclusive: each replica belongs to its node, and no other node ever runs it";
        at.refuse(found, "leave guarantee out, or write mode: replicated", report);
        return None;
    }
    Some((Guarantee::Exclusive { ttl: ttl? }, at))
}

fn word(text: &str) -> Result<bool, Fault> {
    match text {
        "available" => Ok(false),
        "exclusive" => Ok(true),
        other => {
            let found = format!("the guarantee {} is unknown", quoted(other));
            Err(Fault::new(
                found,
                "write available (each side of a split serves) or exclusive (never two at once)",
            ))
        }
    }
}

/// How long a lease holds; `None` when that is written in a way that cannot be.
fn ttl(at: &At<'_>, report: &mut Report) -> Option<Duration> {
    let mut lease = at.table(report)?;
    let given = lease.take("ttl");
    let profile = lease.take("profile");
    lease.finish(&[], report);
    match (given, profile) {
        (Some(_), Some(profile)) => {
            let help = "leave out one of them: a profile is a ttl with a name";
            profile.refuse_key("a lease has a ttl or a profile, and not both", help, report);
            None
        }
        (Some(given), None) => given.parse(time, report),
        (None, Some(profile)) => profile.parse(named, report),
        (None, None) => {
            at.refuse("the lease has neither ttl nor profile", "write ttl: 12s", report);
            None
        }
    }
}

/// A time for which a lease keeps what it promises.
fn time(text: &str) -> Result<Duration, Fault> {
    let ttl = duration(text)?;
    match Timing::of(ttl) {
        Ok(_) => Ok(ttl),
        Err(broken) => {
            let help = "write a ttl from 6s to 5m, such as 12s, or profile: default";
            Err(Fault::new(broken.to_string(), help))
        }
    }
}

fn named(text: &str) -> Result<Duration, Fault> {
    let found = PROFILES.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, ttl)| ttl).ok_or_else(|| {
        let help = "write lan-fast (6s), default (12s) or wan (30s)";
        Fault::new(format!("the profile {} is unknown", quoted(text)), help)
    })
}

#[cfg(test)]
mod tests;
