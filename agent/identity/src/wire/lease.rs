//! Who witnesses an exclusive slot, and what a witness keeps on disk of one.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_coordinator::id::Incarnation;
use mesh_coordinator::lease::exclusive::{
    Accepted, Ballot, BootId, Configuration, Holder, Key, Register, StoreId, Timing, Token, Value,
    WitnessId,
};
use mesh_ports::store::WITNESSES_MAX;
use mesh_proto::v1;

use super::{Fault, Within as _, array, node, positive, required};

/// The format of a register that is written, and the highest that is read.
const REGISTER_FORMAT: u32 = 1;

/// A fencing token: the first is 1.
pub(crate) fn token(field: &str, number: u64) -> Result<Token, Fault> {
    positive(field, number).map(Token)
}

pub(crate) fn write_store(store: StoreId) -> Vec<u8> {
    store.0.to_be_bytes().to_vec()
}

pub(crate) fn write_witnesses(witnesses: &BTreeSet<WitnessId>) -> Vec<v1::Witness> {
    let write = |witness: &WitnessId| v1::Witness {
        node: witness.node.as_bytes().to_vec(),
        store: write_store(witness.store),
    };
    witnesses.iter().map(write).collect()
}

/// Witnesses that ascend, so that none comes twice.
pub(crate) fn read_witnesses(
    field: &str,
    witnesses: Vec<v1::Witness>,
    len_max: usize,
) -> Result<BTreeSet<WitnessId>, Fault> {
    if witnesses.len() > len_max {
        let found = witnesses.len();
        return Err(Fault::new(field, format!("{found} witnesses are more than {len_max}")));
    }
    let mut read = BTreeSet::new();
    for witness in witnesses {
        let node = node("node", &witness.node).within(field)?;
        let store = StoreId(u128::from_be_bytes(array("store", &witness.store).within(field)?));
        let witness = WitnessId { node, store };
        if read.last().is_some_and(|last| *last >= witness) {
            return Err(Fault::new(field, format!("{node} comes twice or out of order")));
        }
        read.insert(witness);
    }
    Ok(read)
}

pub(crate) fn write_register(register: &Register) -> v1::Register {
    v1::Register {
        format: REGISTER_FORMAT,
        promised: Some(write_ballot(register.promised)),
        accepted: register.accepted.as_ref().map(|accepted| v1::LeaseAccepted {
            key: Some(v1::LeaseKey {
                ballot: Some(write_ballot(accepted.key.ballot)),
                sub: accepted.key.sub,
            }),
            value: Some(v1::LeaseValue {
                configuration: Some(write_configuration(&accepted.value.configuration)),
                token: accepted.value.token.0,
            }),
        }),
        released: register.released.map(|token| token.0),
        ttl_max_ns: nanos(register.ttl_max),
    }
}

pub(crate) fn read_register(register: v1::Register) -> Result<Register, Fault> {
    // Looked at before anything else: the fields of a newer format may mean something else.
    if register.format != REGISTER_FORMAT {
        let found = register.format;
        let reason = format!("is {found}, and this agent knows {REGISTER_FORMAT}");
        return Err(Fault::new("format", reason));
    }
    let ttl_max = Duration::from_nanos(register.ttl_max_ns);
    if ttl_max > Timing::TTL_MAX {
        return Err(Fault::new("ttl_max_ns", format!("{ttl_max:?} is longer than any lease")));
    }
    Ok(Register {
        promised: read_ballot(required("promised", register.promised)?).within("promised")?,
        accepted: register.accepted.map(read_accepted).transpose().within("accepted")?,
        released: register.released.map(|number| token("released", number)).transpose()?,
        ttl_max,
    })
}

fn read_accepted(accepted: v1::LeaseAccepted) -> Result<Accepted, Fault> {
    let key = required("key", accepted.key)?;
    let value = required("value", accepted.value)?;
    let configuration = required("value.configuration", value.configuration)?;
    Ok(Accepted {
        key: Key {
            ballot: read_ballot(required("key.ballot", key.ballot)?).within("key.ballot")?,
            sub: positive("key.sub", key.sub)?,
        },
        value: Value {
            configuration: read_configuration(configuration).within("value.configuration")?,
            token: token("value.token", value.token)?,
        },
    })
}

fn write_ballot(ballot: Ballot) -> v1::LeaseBallot {
    let Ballot { counter, holder } = ballot;
    let holder = v1::LeaseHolder {
        node: holder.node.as_bytes().to_vec(),
        boot: holder.boot.0.to_be_bytes().to_vec(),
        incarnation: holder.incarnation.0,
    };
    v1::LeaseBallot { counter, holder: Some(holder) }
}

fn read_ballot(ballot: v1::LeaseBallot) -> Result<Ballot, Fault> {
    let holder = required("holder", ballot.holder)?;
    let holder = Holder {
        node: node("holder.node", &holder.node)?,
        boot: BootId(u128::from_be_bytes(array("holder.boot", &holder.boot)?)),
        incarnation: Incarnation(holder.incarnation),
    };
    Ok(Ballot { counter: positive("counter", ballot.counter)?, holder })
}

fn write_configuration(configuration: &Configuration) -> v1::LeaseConfiguration {
    v1::LeaseConfiguration {
        version: configuration.version,
        current: write_witnesses(&configuration.current),
        next: configuration.next.as_ref().map(write_witnesses).unwrap_or_default(),
        ttl_ns: nanos(configuration.ttl),
    }
}

fn read_configuration(configuration: v1::LeaseConfiguration) -> Result<Configuration, Fault> {
    let current = read_witnesses("current", configuration.current, WITNESSES_MAX)?;
    if current.is_empty() {
        return Err(Fault::new("current", "there is none"));
    }
    let next = read_witnesses("next", configuration.next, WITNESSES_MAX)?;
    let next = (!next.is_empty()).then_some(next);
    let ttl = Duration::from_nanos(configuration.ttl_ns);
    if let Err(broken) = Timing::of(ttl) {
        return Err(Fault::new("ttl_ns", broken.to_string()));
    }
    Ok(Configuration { version: configuration.version, current, next, ttl })
}

/// Nanoseconds; what is longer than 584 years is refused by whoever reads it.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
