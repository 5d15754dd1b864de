//! The rules of the protocol as switches, so that tests can show what each of them is good for.
//!
//! An agent obeys all of them, always: only the simulator's mutants leave one out, and some checker must notice.

/// One rule. The letters and numbers are those of the protocol document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// C1: a node claims only once it has heard what the others hold.
    WarmUp,
    /// C2: the claims of a node that is down hold nothing.
    DeadHoldNothing,
    /// C2: the claims of a node whose agent restarts hold what they hold.
    RestartingHold,
    /// C2: a slot whose holder yields needs relief.
    Relief,
    /// C2: a slot that is held by an old revision needs a replacement.
    Replacement,
    /// C3: the ranks behind the first wait for it.
    RankDelay,
    /// C4: an intent makes way for who serves already, and for a better claim.
    Intent,
    /// C5: of two claims that do not serve yet, the worse one is given up.
    AbortWorse,
    /// C5: of two claims that serve, the worse one asks to be relieved.
    SeekRelief,
    /// C5: who serves stops only after the other has promised to go on.
    AwaitKeep,
    /// C5: a promise is given only by a claim that is ready.
    KeepOnlyReady,
    /// C5: who promised to go on does not stop by itself for a while.
    HonourKeep,
    /// C6: a replica that cannot get ready is given up, so that another node may try.
    GiveUp,
    /// C7: a service is replaced one replica after the other.
    OneAtATime,
    /// C8: a node starts only a few replicas at a time.
    StartsMax,
    /// C8: an intent whose start does not begin for long holds nobody back.
    IntentMax,
    /// C9: after many deaths at once nothing is claimed until they are all known.
    Settle,
    /// C10: nodes with fewer replicas of the service come first.
    Spread,
    /// C11: a drained or unsuited holder goes on until somebody relieves it.
    YieldServes,
    /// C12: what the catalogue does not want any more is stopped.
    StopUnwanted,
    /// W1, W2: a witness promises and grants nothing to others while somebody holds the slot.
    GrantToOne,
    /// W1, W2: a witness answers no ballot below one that it has promised.
    KeepPromise,
    /// W2: no answer leaves before what it tells is on disk.
    FlushFirst,
    /// W3: a token that was released gets no more time.
    ReleaseFinal,
    /// W4: a restarted witness takes what it may have granted for running.
    Quarantine,
    /// A node that lost its store is another witness. The agent's store sees to it, and the worlds of tests.
    OtherStore,
    /// H1: a grant counts from the moment before it was asked for.
    FromAsking,
    /// H2: whoever becomes the holder goes on with the configuration of the highest value that was accepted.
    AdoptHighest,
    /// H3: the first grants of a later life hold as long as those of the former one.
    OutlastFormer,
    /// H5: a lease that lapsed never comes back.
    LapseIsFinal,
    /// H6: the guard knows the deadline before the container starts.
    GuardFirst,
    /// H7: a witness that promised a higher ballot meanwhile is won back.
    WinBack,
    /// H8: the token of a former life is gone on with once.
    ResumeOnce,
    /// X3: the witnesses change only by a majority of both sets.
    BothMajorities,
    /// L-stop: a claim whose lease is over stops.
    FollowLease,
    /// L-later: whoever hears of a later token stops.
    YieldToLater,
    /// L-release: a lease is released when nothing of its container is left.
    ReleaseLast,
    /// L-twin: a node under whose identity another agent lives holds and witnesses nothing.
    TwinsRefuse,
    /// L-witness: a lost witness is replaced.
    MendWitnesses,
    /// L-witness: nobody is proposed as a witness who may be silent, and by nobody who may be cut off.
    AskLiving,
    /// M1: the opinion of one observer moves nothing while another can be asked.
    SecondOpinion,
    /// M2: an observer that reaches no other one believes itself.
    BelieveAlone,
    /// M3: a host that refuses connections is restarting its agent and keeps what it holds.
    RestartGrace,
    /// M4: who was late himself does not take the others for silent.
    DoubtOwnEars,
    /// M5: a vote dies with the voter.
    VoteDies,
    /// M5: a higher incarnation refutes the votes about a lower one, while there is a sign of it.
    Refute,
    /// M6: where the observers have not spoken, what was heard counts, then gossip.
    Undisputed,
    /// P1: a submission is acknowledged only when it is on a second disk too.
    SecondDisk,
    /// P1: a peer's records are acknowledged only when they are on this disk.
    StoreBeforeAnswer,
    /// P5: nodes whose catalogues differ exchange what the other lacks.
    Exchange,
    /// The causally later record wins, whatever the clocks say.
    Generation,
    /// A removal is absorbing.
    Tombstone,
}

/// Which rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules(Option<Rule>);

impl Rules {
    /// All of them: what an agent obeys.
    pub const ALL: Self = Self(None);

    /// All but one, for a test that shows what it is good for.
    #[must_use]
    pub const fn without(rule: Rule) -> Self {
        Self(Some(rule))
    }

    /// What a script comes to with all rules in force, and without `rule`.
    #[cfg(test)]
    pub(crate) fn with_and_without<T>(rule: Rule, script: impl Fn(Self) -> T) -> [T; 2] {
        [Self::ALL, Self::without(rule)].map(script)
    }

    /// Whether `rule` holds.
    #[must_use]
    pub fn hold(self, rule: Rule) -> bool {
        self.0 != Some(rule)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::ALL
    }
}
