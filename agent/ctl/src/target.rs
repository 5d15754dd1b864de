//! What people type for apps, services, replicas and nodes, and what they may have meant.

mod nearest;
pub(crate) mod path;

use std::fmt;
use std::str::FromStr;

use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{AppUid, SlotId, SlotIndex};
use mesh_coordinator::view::{AppView, NodeView, Overview, ParkedView, ServiceView, SlotView};

pub(crate) use self::nearest::{hint, listed, nearest};
use crate::failure::Failure;
use crate::roll::Seat;

/// The shortest beginning of an id that stands for it; shorter ones would too often be a misspelt name.
const ID_PREFIX_LEN_MIN: usize = 4;

/// `app`, `app/service` or `app/service/index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The app, as it was typed.
    pub(crate) app: String,
    /// The service; `None` for all of them.
    pub(crate) service: Option<String>,
    /// The replica: a number, or a node for a global service; `None` for all of them.
    pub(crate) index: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/');
        let wrong = || format!("{text:?} is not app, app/service or app/service/index");
        let mut next = || match parts.next() {
            Some("") => Err(wrong()),
            part => Ok(part.map(str::to_owned)),
        };
        let (app, service, index) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self { app: app.ok_or_else(wrong)?, service, index })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.app)?;
        let rest = self.service.iter().chain(&self.index);
        rest.into_iter().try_for_each(|part| write!(f, "/{part}"))
    }
}

/// The app of that name, or of that beginning of an id.
pub(crate) fn app<'a>(overview: &'a Overview, text: &str) -> Result<&'a AppView, Failure> {
    if let Some((name, _)) = text.split_once('/') {
        let app = app(overview, name)?;
        return Err(Failure::usage(
            format!(
                "{text} is a part of an app, and this takes a whole one: did you mean {}?",
                app.name
            ),
            format!("agentctl ps {}", app.name),
        ));
    }
    let apps = overview.apps.iter();
    let known =
        apps.map(|app| Known { name: app.name.to_string(), id: app.uid.to_string(), of: app });
    if let Some(ParkedView { name, uid, .. }) = parked(overview, text) {
        return Err(Failure::failed(format!(
            "{text} is a parked app: another one called {name} runs, and of this one nothing does"
        ))
        .next(format!("agentctl rm {uid} removes it; agentctl ps {name} shows both")));
    }
    pick("app", text, known.collect(), "agentctl ps")
}

/// The parked app whose identity begins like that; `None` when it is one of an app that runs, or none at all.
pub(crate) fn parked<'a>(overview: &'a Overview, text: &str) -> Option<&'a ParkedView> {
    let is_long = text.len() >= ID_PREFIX_LEN_MIN;
    let fits = |uid: &AppUid| is_long && uid.to_string().starts_with(text);
    let is_name = overview.apps.iter().any(|app| app.name.as_str() == text || fits(&app.uid));
    let mut found = overview.parked.iter().filter(|app| fits(&app.uid) && !is_name);
    // Of several that begin like that none is meant.
    found.next().filter(|_| found.next().is_none())
}

/// The node of that name, or of that beginning of an id.
pub(crate) fn node<'a>(overview: &'a Overview, text: &str) -> Result<&'a NodeView, Failure> {
    let nodes = overview.nodes.iter();
    let known =
        nodes.map(|node| Known { name: node.name.to_string(), id: node.id.to_string(), of: node });
    pick("node", text, known.collect(), "agentctl nodes")
}

/// The operator of that name, or of that beginning of a key.
pub(crate) fn operator<'a>(seats: &'a [Seat], text: &str) -> Result<&'a Seat, Failure> {
    let known = seats.iter();
    let known =
        known.map(|seat| Known { name: seat.name.to_string(), id: seat.key.to_string(), of: seat });
    pick("operator", text, known.collect(), "agentctl operator ls")
}

/// The service of that name.
pub(crate) fn service<'a>(app: &'a AppView, text: &str) -> Result<&'a ServiceView, Failure> {
    let services = app.services.iter();
    let known = services.map(|service| Known {
        name: service.name.to_string(),
        id: String::new(),
        of: service,
    });
    pick(
        &format!("service of {}", app.name),
        text,
        known.collect(),
        &format!("agentctl ps {}", app.name),
    )
}

/// The services that a target means.
pub(crate) fn services<'a>(
    app: &'a AppView,
    target: &Target,
) -> Result<Vec<&'a ServiceView>, Failure> {
    match &target.service {
        Some(name) => Ok(vec![service(app, name)?]),
        None => Ok(app.services.iter().collect()),
    }
}

/// The replicas of a service that anybody can mean: not those that only have to stop.
pub(crate) fn replicas(service: &ServiceView) -> impl Iterator<Item = &SlotView> {
    service.slots.iter().filter(|slot| {
        slot.wanted || slot.claims.iter().any(|claim| claim.phase != Phase::Released)
    })
}

/// The replicas that a target means.
pub(crate) fn slots<'a>(
    overview: &'a Overview,
    target: &Target,
) -> Result<Vec<&'a SlotView>, Failure> {
    let app = app(overview, &target.app)?;
    let services = services(app, target)?;
    let all = services.iter().flat_map(|service| replicas(service));
    let Some(index) = &target.index else { return Ok(all.collect()) };
    let wanted = index_of(overview, index);
    let known: Vec<&SlotView> = all.collect();
    if let Some(found) = known.iter().find(|slot| Some(slot.slot.index) == wanted) {
        return Ok(vec![found]);
    }
    let names: Vec<&str> = known.iter().map(|slot| slot.name.as_str()).collect();
    // One number is as near as another: only the names of nodes can be misspelt.
    let ends: Vec<&str> = names.iter().filter_map(|name| name.rsplit('/').next()).collect();
    let meant = if wanted.is_none() { nearest(index, &ends) } else { None };
    let hint = match meant.and_then(|end| names.iter().find(|name| name.ends_with(end))) {
        Some(name) => format!("did you mean {name}?"),
        None if names.is_empty() => "there is none now".to_owned(),
        None => format!("there is {}", listed(&names)),
    };
    Err(Failure::usage(
        format!("there is no replica {target}: {hint}"),
        format!("agentctl ps {}", target.app),
    ))
}

/// The one replica that a target means.
pub(crate) fn slot<'a>(overview: &'a Overview, target: &Target) -> Result<&'a SlotView, Failure> {
    let found = slots(overview, target)?;
    match found.as_slice() {
        [slot] => Ok(slot),
        [] => Err(Failure::usage(
            format!("{target} has no replica now"),
            format!("agentctl ps {}", target.app),
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|slot| slot.name.as_str()).collect();
            Err(Failure::usage(
                format!("{target} has several replicas: name one of {}", listed(&names)),
                format!("agentctl ps {} shows where they are", target.app),
            ))
        }
    }
}

/// Whether `app` exists and the rest of the target could be a slot that is not there now: `why` explains those too.
pub(crate) fn absent_slot(overview: &Overview, target: &Target) -> Option<SlotId> {
    let app = app(overview, &target.app).ok()?;
    let service = service(app, target.service.as_ref()?).ok()?;
    let index = index_of(overview, target.index.as_ref()?)?;
    Some(SlotId { app: app.uid, service: service.name.clone(), index })
}

fn index_of(overview: &Overview, text: &str) -> Option<SlotIndex> {
    if let Ok(number) = text.parse() {
        return Some(SlotIndex::Number(number));
    }
    node(overview, text).ok().map(|node| SlotIndex::Node(node.id))
}

/// Something with a name, and perhaps an id (empty when it has none).
struct Known<'a, T> {
    name: String,
    id: String,
    of: &'a T,
}

fn pick<'a, T>(
    kind: &str,
    text: &str,
    known: Vec<Known<'a, T>>,
    command: &str,
) -> Result<&'a T, Failure> {
    let exact: Vec<_> = known.iter().filter(|one| one.name == text || one.id == text).collect();
    match exact.as_slice() {
        [one] => return Ok(one.of),
        [] => {}
        several => {
            let ids: Vec<&str> = several.iter().map(|one| one.id.as_str()).collect();
            return Err(Failure::usage(
                format!("{text} is the name of several: {}", listed(&ids)),
                format!("say which one by its id; {command} shows them"),
            ));
        }
    }
    let is_long = text.len() >= ID_PREFIX_LEN_MIN;
    let by_id: Vec<_> = known.iter().filter(|one| is_long && one.id.starts_with(text)).collect();
    match by_id.as_slice() {
        [one] => return Ok(one.of),
        [] => {}
        several => {
            let ids: Vec<&str> = several.iter().map(|one| one.id.as_str()).collect();
            return Err(Failure::usage(
                format!("{text} begins several ids: {}", listed(&ids)),
                format!("type more of it; {command} shows them"),
            ));
        }
    }
    let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
    let hint = hint(text, &names);
    Err(Failure::usage(format!("there is no {kind} {text:?}: {hint}"), command))
}

#[cfg(test)]
mod tests;
