//! Thousands of meshes on bad days, each a function of its seed.
//!
//! `SIM_SEEDS` says how many; `SIM_SEED=… cargo test -p mesh-tests --test sim one_seed -- --nocapture` repeats one that failed,
//! and with `SIM_LOG=1` tells it.
//! `SIM_FIRST` says with which seed a sweep begins, `SIM_FAILURES` after how many failures it ends;
//! with `SIM_ONCE=1` no seed is run twice to compare the two runs.

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "how to repeat a seed, and how much happened")]
mod tests {
    use std::ops::Range;
    use std::str::FromStr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    use mesh_coordinator::rules::{Rule, Rules};
    use mesh_tests::sim::scenario::{
        CutOff, Frozen, Scene, cloned, cut_off, failovers, frozen, survives_its_entry,
    };
    use mesh_tests::sim::{Coverage, Outcome, Setup, Violation, run};

    /// So many seeds are run when nobody says otherwise.
    const SEEDS: u64 = 300;
    /// A mutant must be noticed within so many seeds. A rule that needs more has a script of its own.
    const MUTANT_SEEDS: u64 = 300;
    /// So many nodes are more than a claim is told to directly.
    const LARGE: usize = 40;
    const LARGE_SEEDS: u64 = 12;
    /// So often each scene of a holder that is cut off is played.
    const CUT_OFF_SEEDS: u64 = 50;

    fn number<T: FromStr>(name: &str) -> Option<T> {
        std::env::var(name).ok().and_then(|text| text.parse().ok())
    }

    /// Runs `seeds` on all processors until `look` says that it has seen enough.
    fn sweep(
        seeds: Range<u64>,
        setup: impl Fn(u64) -> Setup + Sync,
        look: impl Fn(u64, Outcome) -> bool + Sync,
    ) {
        let (next, enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..n_threads {
                scope.spawn(|| {
                    while !enough.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        if look(seed, run(setup(seed))) {
                            enough.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn one_seed() {
        let outcome = run(Setup::of(number("SIM_SEED").unwrap_or(0)));
        for line in &outcome.log {
            println!("{line}");
        }
        println!("{:?}", outcome.coverage);
        assert_eq!(outcome.violation, None);
    }

    #[test]
    fn every_seed_keeps_the_promises() {
        let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
        let once = std::env::var_os("SIM_ONCE").is_some();
        let failures_max = number("SIM_FAILURES").unwrap_or(20);
        let (coverage, failures) = (Mutex::new(Coverage::default()), Mutex::new(Vec::new()));
        let first = number("SIM_FIRST").unwrap_or(0);
        sweep(first..first + seeds, Setup::of, |seed, outcome| {
            let is_same = once || run(Setup::of(seed)).trace == outcome.trace;
            let mut failures = failures.lock().unwrap();
            if !is_same {
                failures.push((seed, "two runs of it differ".to_owned()));
            }
            if let Some(violation) = outcome.violation {
                println!("seed {seed}: {}", violation.check);
                failures.push((seed, format!("{violation:?}")));
            }
            coverage.lock().unwrap().add(&outcome.coverage);
            failures.len() >= failures_max
        });
        let coverage = coverage.into_inner().unwrap();
        println!("{seeds} seeds: {coverage:?}");
        let mut failures = failures.into_inner().unwrap();
        failures.sort();
        for (seed, failure) in &failures {
            println!("SIM_SEED={seed} cargo test -p mesh-tests --test sim one_seed -- --nocapture");
            println!("    {failure}");
        }
        assert!(failures.is_empty(), "{} seeds fail", failures.len());
        assert_covered(&coverage, seeds);
    }

    /// What small meshes hardly know: members that nobody here watches, claims that are told to some only.
    #[test]
    fn a_larger_mesh_keeps_the_promises() {
        let large = |seed| Setup { n_hosts: Some(LARGE), ..Setup::of(seed) };
        let failures = Mutex::new(Vec::new());
        sweep(0..LARGE_SEEDS, large, |seed, outcome| {
            let mut failures = failures.lock().unwrap();
            failures.extend(outcome.violation.map(|violation| (seed, violation)));
            !failures.is_empty()
        });
        let failures = failures.into_inner().unwrap();
        assert_eq!(failures, []);
    }

    /// Enough happened in `seeds` runs for their silence to mean something.
    fn assert_covered(coverage: &Coverage, seeds: u64) {
        let minima = [
            ("agents killed", coverage.kills, 5),
            ("hosts without power", coverage.power_offs, 3),
            ("splits", coverage.splits, 2),
            ("ways mended", coverage.heals, 20),
            ("failovers", coverage.failovers, 2),
            ("reliefs", coverage.reliefs, 4),
            ("acknowledged records", coverage.acked_firmly, 8),
            ("looks at a mesh in order", coverage.settled, 10),
        ];
        for (what, count, per_seed) in minima {
            assert!(count >= per_seed * seeds, "only {count} {what} in {seeds} seeds");
        }
        let [drains, scales, joins] = coverage.drains_scales_joins();
        assert!(drains + scales >= 2 * seeds && joins * 4 >= seeds, "{drains} {scales} {joins}");
        if seeds >= SEEDS {
            assert_eq!(coverage.missing(), Vec::<String>::new());
            assert_leases_covered(coverage, seeds);
            assert!(coverage.wipes * 5 >= seeds, "only {} wipes", coverage.wipes);
            assert!(coverage.spreads * 3 >= seeds, "only {} looks at spread", coverage.spreads);
        }
    }

    /// Whatever may end a lease did so, and whatever may befall a witness did.
    fn assert_leases_covered(coverage: &Coverage, seeds: u64) {
        for (fault, count) in coverage.leases_ended() {
            assert!(count * 50 >= seeds, "only {count} leases ended by {fault} in {seeds} seeds");
        }
        for (fault, count) in coverage.witnesses_struck() {
            assert!(count * 10 >= seeds, "{fault} befell only {count} witnesses in {seeds} seeds");
        }
        let minima = [
            ("leases that ended in sleep", coverage.overslept * 50),
            ("ballots of equal counters", coverage.same_counters),
            ("changes of witnesses", coverage.changes),
            ("looks at parked apps", coverage.parked),
        ];
        for (what, count) in minima {
            assert!(count >= seeds, "too few {what} in {seeds} seeds");
        }
    }

    #[test]
    fn an_acknowledged_app_survives_the_loss_of_its_entry_node() {
        for seed in 0..100 {
            assert!(survives_its_entry(seed, false, Rules::ALL), "seed {seed}");
        }
        let mutant = Rules::without(Rule::SecondDisk);
        assert!((0..100).any(|seed| !survives_its_entry(seed, false, mutant)), "nothing shows");
    }

    #[test]
    fn an_acknowledged_app_survives_the_loss_of_all_power() {
        for seed in 0..100 {
            assert!(survives_its_entry(seed, true, Rules::ALL), "seed {seed}");
        }
    }

    /// Too many nodes to tell everybody everything: those who take over are told at once all the same.
    #[test]
    fn a_large_mesh_takes_over_as_quickly_as_a_small_one() {
        for seed in 0..3 {
            let outcome = failovers(seed, 40, 3, None);
            assert_eq!(outcome.violation, None);
            let slowest = outcome.times.last().copied().unwrap_or_default();
            assert!(
                slowest > Duration::ZERO && slowest < Duration::from_millis(1_500),
                "{slowest:?}"
            );
        }
    }

    /// Scenes in which one rule stands between a holder that is cut off and the next one.
    #[test]
    fn whoever_is_cut_off_has_stopped_before_another_starts() {
        let scenes = [
            (Scene::LateAnswers, Rule::FromAsking, true),
            (Scene::Restarts, Rule::Quarantine, true),
            // With most of its witnesses the slot is lost until an operator decides.
            (Scene::NewStores, Rule::OtherStore, false),
        ];
        for (scene, rule, is_taken_over) in scenes {
            for seed in 0..CUT_OFF_SEEDS {
                let expected = CutOff { violation: None, is_taken_over };
                assert_eq!(cut_off(seed, scene, Rules::ALL), expected, "{scene:?}, seed {seed}");
            }
            let breaks = |seed| cut_off(seed, scene, Rules::without(rule)).violation.is_some();
            let found = (0..CUT_OFF_SEEDS).find(|seed| breaks(*seed));
            println!("without {rule:?}: seed {found:?}");
            assert!(found.is_some(), "nobody noticed the absence of {rule:?}");
        }
    }

    /// The copy is a later boot of the same node, so it waits like everybody; and neither of the two goes on as if it were alone.
    #[test]
    fn a_holder_whose_disk_is_copied_never_runs_twice_and_is_taken_over() {
        for seed in 0..CUT_OFF_SEEDS {
            let expected = CutOff { violation: None, is_taken_over: true };
            assert_eq!(cloned(seed, Rules::ALL), expected, "seed {seed}");
        }
        let goes_on = |seed: &u64| !cloned(*seed, Rules::without(Rule::TwinsRefuse)).is_taken_over;
        assert!((0..CUT_OFF_SEEDS).any(|seed| goes_on(&seed)), "nothing shows");
    }

    /// Nothing keeps it from running beside the other for a moment. Then it stops, and meanwhile nobody who knows of the other uses it.
    #[test]
    fn a_holder_whose_clocks_stood_still_stops_when_it_hears_of_a_later_token() {
        for seed in 0..CUT_OFF_SEEDS {
            let expected = Frozen { violation: None, n_runners: (2, 1), is_misled: false };
            assert_eq!(frozen(seed, Rules::ALL), expected, "seed {seed}");
        }
        let without = |seed| frozen(seed, Rules::without(Rule::YieldToLater));
        let outcomes: Vec<Frozen> = (0..CUT_OFF_SEEDS).map(without).collect();
        assert!(outcomes.iter().any(|outcome| outcome.n_runners.1 == 2), "nothing shows");
        assert!(outcomes.iter().any(|outcome| outcome.is_misled), "nothing shows");
    }

    /// The first violation by a mesh that plays without `rule`. Rules that are not here have scripts of their own, beside the code:
    /// `lease/claims/tests.rs`, `membership/tests.rs` and `node/tests.rs` of the core. What only shows when several rare things meet
    /// belongs there.
    fn caught(rule: Rule) -> Option<(u64, Violation)> {
        let first = Mutex::new(None);
        let mutant = |seed| {
            let usual = Setup::of(seed);
            Setup { rules: Rules::without(rule), about: Some(rule), ..usual }
        };
        sweep(0..MUTANT_SEEDS, mutant, |seed, outcome| {
            // A seed that fails with all rules in force says nothing about this one.
            let sound = || run(Setup { rules: Rules::ALL, ..mutant(seed) }).violation.is_none();
            let found = outcome.violation.filter(|_| sound()).map(|violation| (seed, violation));
            let is_found = found.is_some();
            if is_found {
                first.lock().unwrap().get_or_insert(found);
            }
            is_found
        });
        first.into_inner().unwrap().flatten()
    }

    macro_rules! mutants {
        ($($(#[$doc:meta])* $name:ident: $rule:ident;)*) => {
            $(
                $(#[$doc])*
                #[test]
                fn $name() {
                    let (seed, violation) = caught(Rule::$rule).expect("some checker should notice");
                    println!("seed {seed}: {}: {}", violation.check, violation.text);
                }
            )*
        };
    }

    mutants! {
        without_abort_somebody_notices: AbortWorse;
        without_seeking_relief_somebody_notices: SeekRelief;
        without_waiting_for_the_promise_somebody_notices: AwaitKeep;
        without_giving_up_somebody_notices: GiveUp;
        without_a_limit_of_starts_somebody_notices: StartsMax;
        without_serving_while_yielding_somebody_notices: YieldServes;
        without_stopping_the_unwanted_somebody_notices: StopUnwanted;
        without_a_second_disk_somebody_notices: SecondDisk;
        without_storing_before_answering_somebody_notices: StoreBeforeAnswer;
        without_exchange_somebody_notices: Exchange;
        without_generations_somebody_notices: Generation;
        without_tombstones_somebody_notices: Tombstone;
        without_adopting_the_highest_somebody_notices: AdoptHighest;
        without_both_majorities_somebody_notices: BothMajorities;
        without_granting_to_one_somebody_notices: GrantToOne;
        without_flushing_first_somebody_notices: FlushFirst;
        without_an_end_of_lapsed_leases_somebody_notices: LapseIsFinal;
        without_following_the_lease_somebody_notices: FollowLease;
        without_the_guard_first_somebody_notices: GuardFirst;
        without_releasing_last_somebody_notices: ReleaseLast;
        without_mending_witnesses_somebody_notices: MendWitnesses;
        without_asking_the_living_somebody_notices: AskLiving;
    }
}
