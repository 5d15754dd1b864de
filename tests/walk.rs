//! A hundred million steps through the protocol of exclusive slots.
//!
//! `WALKS` says how many walks of 4 000 steps, and `WALK_FIRST` with which one they begin: 250 000 are a thousand million steps. `WALK=…`
//! with the filter `one_walk` repeats one.

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "how to repeat a walk, and how much happened")]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use mesh_coordinator::rules::{Rule, Rules};
    use mesh_tests::walk::{Coverage, walk};

    /// Rules whose absence a walk notices within [`MUTANT_WALKS`]. The others are noticed by the simulator, or have scripts in the
    /// coordinator: `LEASES.md` says which.
    const CAUGHT: [Rule; 9] = [
        Rule::AdoptHighest,
        Rule::BothMajorities,
        Rule::FlushFirst,
        Rule::FromAsking,
        Rule::GrantToOne,
        Rule::KeepPromise,
        Rule::LapseIsFinal,
        Rule::OtherStore,
        Rule::Quarantine,
    ];
    const MUTANT_WALKS: u64 = 10_000;

    fn number(name: &str) -> Option<u64> {
        std::env::var(name).ok().and_then(|text| text.parse().ok())
    }

    #[test]
    fn one_walk() {
        let seed = number("WALK").unwrap_or(0);
        println!("{:?}", walk(seed, Rules::ALL).unwrap());
    }

    #[test]
    fn every_walk_keeps_the_promises() {
        let n_walks = number("WALKS").unwrap_or(25_000);
        let first = number("WALK_FIRST").unwrap_or(0);
        let (next, all) = (AtomicU64::new(first), Mutex::new(Coverage::default()));
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..n_threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + n_walks {
                            return;
                        }
                        let seen = walk(seed, Rules::ALL).unwrap_or_else(|what| {
                            panic!("{what}; repeat it by WALK={seed} and the filter one_walk")
                        });
                        *all.lock().unwrap() += seen;
                    }
                });
            }
        });
        let all = all.into_inner().unwrap();
        println!("{n_walks} walks: {all:?}");
        assert!(n_walks < 1_000 || all.is_complete(), "something never happened: {all:?}");
    }

    #[test]
    fn without_a_rule_somebody_notices() {
        for rule in CAUGHT {
            let found = (0..MUTANT_WALKS).find(|seed| walk(*seed, Rules::without(rule)).is_err());
            println!("without {rule:?}: walk {found:?}");
            assert!(found.is_some(), "nobody noticed the absence of {rule:?}");
        }
    }
}
