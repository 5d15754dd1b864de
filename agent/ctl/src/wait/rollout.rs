//! How waiting ended.

use crate::failure::{Failure, Outcome};
use crate::output::json;
use crate::ui::Ui;

/// How waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rollout {
    /// How many replicas are as they should be.
    pub(crate) ready: u32,
    /// How many there should be.
    pub(crate) wanted: u32,
    /// How many of the others are served by an earlier definition.
    pub(crate) old: u32,
    /// What is wrong with the others.
    pub(crate) faults: Vec<Fault>,
}

/// A replica that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// As people write it.
    pub(crate) slot: String,
    /// Where it was tried; `None` when nowhere.
    pub(crate) node: Option<String>,
    /// What is wrong.
    pub(crate) reason: String,
}

impl Rollout {
    /// Done, failed, or something between.
    pub(crate) const fn outcome(&self) -> Outcome {
        if self.faults.is_empty() {
            Outcome::Done
        } else if self.ready == 0 {
            Outcome::Failed
        } else {
            Outcome::Partly
        }
    }

    /// As a document.
    pub(crate) fn document(&self) -> json::Rollout {
        let outcome = match self.outcome() {
            Outcome::Done => "done",
            Outcome::Partly => "partly",
            Outcome::Failed | Outcome::Command(_) => "failed",
        };
        let fault = |fault: &Fault| json::Fault {
            slot: fault.slot.clone(),
            node: fault.node.clone(),
            reason: fault.reason.clone(),
        };
        json::Rollout {
            outcome: outcome.to_owned(),
            ready: self.ready,
            wanted: self.wanted,
            faults: self.faults.iter().map(fault).collect(),
        }
    }

    /// Says what is wrong and how to look at it.
    pub(crate) fn report(&self, ui: &mut Ui) -> Result<(), Failure> {
        for fault in &self.faults {
            let node = fault.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
            ui.warn(format!("{}{node}: {}", fault.slot, fault.reason))?;
        }
        let first = |is_placed| self.faults.iter().find(|fault| fault.node.is_some() == is_placed);
        let tried = first(true).map(|fault| format!("agentctl logs {}", fault.slot));
        let open = first(false).map(|fault| format!("agentctl why {}; agentctl nodes", fault.slot));
        let looks: Vec<String> = tried.into_iter().chain(open).collect();
        if looks.is_empty() { Ok(()) } else { ui.warn(format!("look: {}", looks.join("; "))) }
    }
}
