//! What is asked of the witnesses of an exclusive slot, and what they answer.
//!
//! A witness believes no more of a message than its rules allow; what is checked here is that each number is one that an honest
//! node can say, and that no list costs more than a slot is worth.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_coordinator::id::Incarnation;
use mesh_coordinator::lease::exclusive::{
    Accepted, Answer, Ballot, BootId, Configuration, Holder, Key, LeaseId, Refusal, Request,
    StoreId, Timing, Token, Value, WitnessId,
};
use mesh_coordinator::message::Message;
use mesh_ports::store::WITNESSES_MAX;
use mesh_proto::v1;
use mesh_proto::v1::lease_answer::{Answer as WireAnswer, Reason};
use mesh_proto::v1::lease_request::Request as WireRequest;

use super::value::{array, nanos, node, node_to_wire, slot, slot_to_wire, unknown};
use super::{Malformed, required};

pub(crate) fn ask_to_wire(requests: &[(LeaseId, Request)]) -> v1::Ask {
    let requests = requests.iter().map(|(lease, it)| request_to_wire(lease, it)).collect();
    v1::Ask { requests }
}

pub(crate) fn ask(ask: v1::Ask) -> Result<Message, Malformed> {
    ask.requests.into_iter().map(request).collect::<Result<_, _>>().map(Message::Ask)
}

pub(crate) fn word_to_wire(store: StoreId, answers: &[(LeaseId, Answer)]) -> v1::Word {
    let answers = answers.iter().map(|(lease, it)| answer_to_wire(lease, it)).collect();
    v1::Word { store: store_to_wire(store), answers }
}

pub(crate) fn word(word: v1::Word) -> Result<Message, Malformed> {
    let answers = word.answers.into_iter().map(answer).collect::<Result<_, _>>()?;
    Ok(Message::Word { store: store("word.store", &word.store)?, answers })
}

fn request_to_wire(lease: &LeaseId, request: &Request) -> v1::LeaseRequest {
    let request = match request {
        Request::Accept { key, round, value, ttl } => {
            WireRequest::Accept(v1::lease_request::Accept {
                key: Some(key_to_wire(*key)),
                round: *round,
                value: Some(value_to_wire(value)),
                ttl_ns: nanos(*ttl),
            })
        }
        Request::Locate => WireRequest::Locate(v1::lease_request::Locate {}),
        Request::Prepare { ballot } => WireRequest::Prepare(v1::lease_request::Prepare {
            ballot: Some(ballot_to_wire(*ballot)),
        }),
        Request::Release { token } => {
            WireRequest::Release(v1::lease_request::Release { token: token.0 })
        }
        Request::Renew { key, round, ttl } => WireRequest::Renew(v1::lease_request::Renew {
            key: Some(key_to_wire(*key)),
            round: *round,
            ttl_ns: nanos(*ttl),
        }),
    };
    v1::LeaseRequest { lease: Some(id_to_wire(lease)), request: Some(request) }
}

fn request(wire: v1::LeaseRequest) -> Result<(LeaseId, Request), Malformed> {
    let request = match required("request.request", wire.request)? {
        WireRequest::Accept(accept) => Request::Accept {
            key: key("accept.key", accept.key)?,
            round: accept.round,
            value: value("accept.value", accept.value)?,
            ttl: grant("accept.ttl_ns", accept.ttl_ns)?,
        },
        WireRequest::Prepare(prepare) => {
            Request::Prepare { ballot: ballot("prepare.ballot", prepare.ballot)? }
        }
        WireRequest::Locate(v1::lease_request::Locate {}) => Request::Locate,
        WireRequest::Release(release) => {
            Request::Release { token: token("release.token", release.token)? }
        }
        WireRequest::Renew(renew) => Request::Renew {
            key: key("renew.key", renew.key)?,
            round: renew.round,
            ttl: grant("renew.ttl_ns", renew.ttl_ns)?,
        },
    };
    Ok((id("request.lease", wire.lease)?, request))
}

fn answer_to_wire(lease: &LeaseId, answer: &Answer) -> v1::LeaseAnswer {
    let answer = match answer {
        Answer::Busy { ballot, holder, token, remaining, configuration } => {
            WireAnswer::Busy(v1::lease_answer::Busy {
                ballot: Some(ballot_to_wire(*ballot)),
                holder: Some(holder_to_wire(*holder)),
                token: token.0,
                remaining_ns: nanos(*remaining),
                configuration: configuration.as_ref().map(configuration_to_wire),
            })
        }
        Answer::Granted { key, round } => WireAnswer::Granted(v1::lease_answer::Granted {
            key: Some(key_to_wire(*key)),
            round: *round,
        }),
        Answer::Located { configuration } => WireAnswer::Located(v1::lease_answer::Located {
            configuration: configuration.as_ref().map(configuration_to_wire),
        }),
        Answer::Promise { ballot, accepted } => WireAnswer::Promise(v1::lease_answer::Promise {
            ballot: Some(ballot_to_wire(*ballot)),
            accepted: accepted.as_ref().map(|accepted| v1::LeaseAccepted {
                key: Some(key_to_wire(accepted.key)),
                value: Some(value_to_wire(&accepted.value)),
            }),
        }),
        Answer::Refused { ballot, refusal, configuration } => {
            let (reason, promised) = refusal_to_wire(*refusal);
            WireAnswer::Refused(v1::lease_answer::Refused {
                ballot: Some(ballot_to_wire(*ballot)),
                reason: reason.into(),
                promised,
                configuration: configuration.as_ref().map(configuration_to_wire),
            })
        }
        Answer::Released { token } => {
            WireAnswer::Released(v1::lease_answer::Released { token: token.0 })
        }
    };
    v1::LeaseAnswer { lease: Some(id_to_wire(lease)), answer: Some(answer) }
}

fn answer(wire: v1::LeaseAnswer) -> Result<(LeaseId, Answer), Malformed> {
    let answer = match required("answer.answer", wire.answer)? {
        WireAnswer::Busy(busy) => Answer::Busy {
            ballot: ballot("busy.ballot", busy.ballot)?,
            holder: holder("busy.holder", busy.holder)?,
            token: token("busy.token", busy.token)?,
            remaining: Duration::from_nanos(busy.remaining_ns),
            configuration: busy.configuration.map(configuration).transpose()?,
        },
        WireAnswer::Granted(granted) => {
            Answer::Granted { key: key("granted.key", granted.key)?, round: granted.round }
        }
        WireAnswer::Located(located) => {
            Answer::Located { configuration: located.configuration.map(configuration).transpose()? }
        }
        WireAnswer::Promise(promise) => Answer::Promise {
            ballot: ballot("promise.ballot", promise.ballot)?,
            accepted: promise.accepted.map(accepted).transpose()?,
        },
        WireAnswer::Refused(refused) => Answer::Refused {
            ballot: ballot("refused.ballot", refused.ballot)?,
            refusal: refusal(refused.reason, refused.promised)?,
            configuration: refused.configuration.map(configuration).transpose()?,
        },
        WireAnswer::Released(released) => {
            Answer::Released { token: token("released.token", released.token)? }
        }
    };
    Ok((id("answer.lease", wire.lease)?, answer))
}

fn id_to_wire(lease: &LeaseId) -> v1::LeaseId {
    v1::LeaseId { slot: Some(slot_to_wire(&lease.slot)), reset: lease.reset }
}

fn id(field: &'static str, wire: Option<v1::LeaseId>) -> Result<LeaseId, Malformed> {
    let wire = required(field, wire)?;
    Ok(LeaseId { slot: slot("lease.slot", wire.slot)?, reset: wire.reset })
}

pub(crate) fn store_to_wire(store: StoreId) -> Vec<u8> {
    store.0.to_be_bytes().to_vec()
}

pub(crate) fn store(field: &'static str, bytes: &[u8]) -> Result<StoreId, Malformed> {
    array(field, bytes).map(u128::from_be_bytes).map(StoreId)
}

/// A fencing token: the first is 1.
pub(crate) fn token(field: &'static str, number: u64) -> Result<Token, Malformed> {
    positive(field, number).map(Token)
}

fn refusal_to_wire(refusal: Refusal) -> (Reason, Option<v1::LeaseBallot>) {
    match refusal {
        Refusal::Leap => (Reason::Leap, None),
        Refusal::Promised(ballot) => (Reason::Promised, Some(ballot_to_wire(ballot))),
        Refusal::Removed => (Reason::Removed, None),
        Refusal::Stranger => (Reason::Stranger, None),
        Refusal::Unknown => (Reason::Unknown, None),
        Refusal::Unaccepted => (Reason::Unaccepted, None),
    }
}

fn refusal(reason: i32, promised: Option<v1::LeaseBallot>) -> Result<Refusal, Malformed> {
    Ok(match Reason::try_from(reason) {
        Ok(Reason::Leap) => Refusal::Leap,
        Ok(Reason::Promised) => Refusal::Promised(ballot("refused.promised", promised)?),
        Ok(Reason::Removed) => Refusal::Removed,
        Ok(Reason::Stranger) => Refusal::Stranger,
        Ok(Reason::Unknown) => Refusal::Unknown,
        Ok(Reason::Unaccepted) => Refusal::Unaccepted,
        Ok(Reason::Unspecified) | Err(_) => return Err(unknown("refused.reason", reason)),
    })
}

fn holder_to_wire(holder: Holder) -> v1::LeaseHolder {
    v1::LeaseHolder {
        node: node_to_wire(holder.node),
        boot: boot_to_wire(holder.boot),
        incarnation: holder.incarnation.0,
    }
}

fn holder(field: &'static str, holder: Option<v1::LeaseHolder>) -> Result<Holder, Malformed> {
    let holder = required(field, holder)?;
    Ok(Holder {
        node: node("holder.node", &holder.node)?,
        boot: boot("holder.boot", &holder.boot)?,
        incarnation: Incarnation(holder.incarnation),
    })
}

fn ballot_to_wire(ballot: Ballot) -> v1::LeaseBallot {
    v1::LeaseBallot { counter: ballot.counter, holder: Some(holder_to_wire(ballot.holder)) }
}

fn ballot(field: &'static str, ballot: Option<v1::LeaseBallot>) -> Result<Ballot, Malformed> {
    let ballot = required(field, ballot)?;
    let counter = positive("ballot.counter", ballot.counter)?;
    Ok(Ballot { counter, holder: holder("ballot.holder", ballot.holder)? })
}

fn key_to_wire(key: Key) -> v1::LeaseKey {
    v1::LeaseKey { ballot: Some(ballot_to_wire(key.ballot)), sub: key.sub }
}

fn key(field: &'static str, key: Option<v1::LeaseKey>) -> Result<Key, Malformed> {
    let key = required(field, key)?;
    Ok(Key { ballot: ballot("key.ballot", key.ballot)?, sub: positive("key.sub", key.sub)? })
}

fn value_to_wire(value: &Value) -> v1::LeaseValue {
    let configuration = Some(configuration_to_wire(&value.configuration));
    v1::LeaseValue { configuration, token: value.token.0 }
}

fn value(field: &'static str, value: Option<v1::LeaseValue>) -> Result<Value, Malformed> {
    let value = required(field, value)?;
    Ok(Value {
        configuration: configuration(required("value.configuration", value.configuration)?)?,
        token: token("value.token", value.token)?,
    })
}

fn accepted(accepted: v1::LeaseAccepted) -> Result<Accepted, Malformed> {
    let key = key("accepted.key", accepted.key)?;
    Ok(Accepted { key, value: value("accepted.value", accepted.value)? })
}

pub(crate) fn configuration_to_wire(configuration: &Configuration) -> v1::LeaseConfiguration {
    v1::LeaseConfiguration {
        version: configuration.version,
        current: witnesses_to_wire(&configuration.current),
        next: configuration.next.as_ref().map(witnesses_to_wire).unwrap_or_default(),
        ttl_ns: nanos(configuration.ttl),
    }
}

pub(crate) fn configuration(
    configuration: v1::LeaseConfiguration,
) -> Result<Configuration, Malformed> {
    let current = witnesses("configuration.current", &configuration.current)?;
    if current.is_empty() {
        return Err(Malformed::new("configuration.current", "there is none"));
    }
    let next = witnesses("configuration.next", &configuration.next)?;
    let next = (!next.is_empty()).then_some(next);
    let ttl = Duration::from_nanos(configuration.ttl_ns);
    if let Err(broken) = Timing::of(ttl) {
        return Err(Malformed::new("configuration.ttl_ns", broken.to_string()));
    }
    Ok(Configuration { version: configuration.version, current, next, ttl })
}

fn witnesses_to_wire(witnesses: &BTreeSet<WitnessId>) -> Vec<v1::Witness> {
    let to_wire = |witness: &WitnessId| v1::Witness {
        node: node_to_wire(witness.node),
        store: store_to_wire(witness.store),
    };
    witnesses.iter().map(to_wire).collect()
}

/// Witnesses that ascend, so that none has two votes.
fn witnesses(
    field: &'static str,
    witnesses: &[v1::Witness],
) -> Result<BTreeSet<WitnessId>, Malformed> {
    if witnesses.len() > WITNESSES_MAX {
        let reason = format!("{} witnesses are more than {WITNESSES_MAX}", witnesses.len());
        return Err(Malformed::new(field, reason));
    }
    let mut read = BTreeSet::new();
    for witness in witnesses {
        let node = node("witness.node", &witness.node)?;
        let witness = WitnessId { node, store: store("witness.store", &witness.store)? };
        if read.last().is_some_and(|last| *last >= witness) {
            return Err(Malformed::new(field, format!("{node} comes twice or out of order")));
        }
        read.insert(witness);
    }
    Ok(read)
}

/// For how long a grant is asked: some time, and no longer than any lease.
fn grant(field: &'static str, ns: u64) -> Result<Duration, Malformed> {
    let ttl = Duration::from_nanos(ns);
    if ttl.is_zero() || ttl > Timing::TTL_MAX {
        let reason = format!("{ttl:?} is no time for a grant: up to {:?}", Timing::TTL_MAX);
        return Err(Malformed::new(field, reason));
    }
    Ok(ttl)
}

fn positive<T: Default + PartialEq>(field: &'static str, number: T) -> Result<T, Malformed> {
    if number == T::default() {
        Err(Malformed::new(field, "is zero; at least 1 is needed"))
    } else {
        Ok(number)
    }
}

pub(crate) fn boot_to_wire(boot: BootId) -> Vec<u8> {
    boot.0.to_be_bytes().to_vec()
}

pub(crate) fn boot(field: &'static str, bytes: &[u8]) -> Result<BootId, Malformed> {
    Ok(BootId(u128::from_be_bytes(array(field, bytes)?)))
}
