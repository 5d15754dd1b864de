//! The simulator's tests.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh_coordinator::rules::Rules;
use mesh_tests::sim::{Coverage, Outcome, Setup, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs `seeds` on all processors and hands each outcome to `look`.
fn sweep(seeds: std::ops::Range<u64>, rules: Rules, look: impl Fn(u64, Outcome) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    look(seed, run(Setup { seed, rules }));
                }
            });
        }
    });
}

#[test]
fn one_seed() {
    let outcome = run(Setup { seed: number("SIM_SEED", 1), rules: Rules::ALL });
    for line in &outcome.log {
        println!("{line}");
    }
    println!("{:?}", outcome.coverage);
    assert_eq!(outcome.violation, None);
}

#[test]
fn many() {
    let failures = Mutex::new(Vec::new());
    let coverage = Mutex::new(Coverage::default());
    sweep(0..number("SIM_SEEDS", 50), Rules::ALL, |seed, outcome| {
        coverage.lock().unwrap().add(&outcome.coverage);
        if let Some(violation) = outcome.violation {
            failures.lock().unwrap().push((seed, violation));
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("{:?}", coverage.into_inner().unwrap());
    for (seed, violation) in &failures {
        println!("SIM_SEED={seed}: {violation:?}");
    }
    assert!(failures.is_empty(), "{} fail", failures.len());
}
