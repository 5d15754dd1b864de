//! How long to hunt, by which seed, and where.

use anyhow::{Context as _, Result, bail, ensure};

use crate::e2e::nemesis::seed;

pub(super) const USAGE: &str =
    "usage: tests/nemesis [--minutes N] [--seed S] [--hosts N] | --clean | --help

  --minutes N  how long things go wrong (15)
  --seed S     what goes wrong (MESH_E2E_SEED, or another one each time)
  --hosts N    of so many hosts, 4 to 9 (5)
  --clean      removes what a killed run left, and ends";

/// Fewer would not have most witnesses of a slot while one is lost and another drained.
const HOSTS_MIN: usize = 4;
/// More than a machine of two cores runs well.
const HOSTS_MAX: usize = 9;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Hunt(Options),
    Clean,
    Help,
}

/// How to hunt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) minutes: u64,
    pub(super) seed: u64,
    pub(super) n_hosts: usize,
}

pub(super) fn read(mut words: impl Iterator<Item = String>) -> Result<Wish> {
    let mut options = Options { minutes: 15, seed: seed(), n_hosts: 5 };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64> {
            let digits = words.next().with_context(|| format!("{word} needs a number"))?;
            digits.parse().with_context(|| format!("{word}: {digits:?} is not a number"))
        };
        match word.as_str() {
            "--minutes" => options.minutes = number()?.max(1),
            "--seed" => options.seed = number()?,
            "--hosts" => options.n_hosts = usize::try_from(number()?)?,
            "--clean" => return Ok(Wish::Clean),
            "--help" | "-h" => return Ok(Wish::Help),
            _ => bail!("{word:?} is not an option"),
        }
    }
    let n = options.n_hosts;
    ensure!(
        (HOSTS_MIN..=HOSTS_MAX).contains(&n),
        "--hosts: {n} is not between {HOSTS_MIN} and {HOSTS_MAX}"
    );
    Ok(Wish::Hunt(options))
}

#[cfg(test)]
mod tests {
    //! What is typed is what is done, or refused by its name.

    use super::{Options, Wish, read};

    fn typed(words: &str) -> Result<Wish, String> {
        let words = words.split_whitespace().map(str::to_owned);
        read(words).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn options_are_read_and_others_refused() {
        let options = Options { minutes: 2, seed: 7, n_hosts: 4 };
        assert_eq!(typed("--minutes 2 --seed 7 --hosts 4"), Ok(Wish::Hunt(options)));
        assert_eq!(typed("--seed 7 --clean"), Ok(Wish::Clean));
        assert_eq!(typed("--help"), Ok(Wish::Help));
        for (words, fault) in [
            ("--hours 2", "\"--hours\" is not an option"),
            ("--hosts 3", "--hosts: 3 is not between 4 and 9"),
            ("--hosts 10", "--hosts: 10 is not between 4 and 9"),
            ("--seed x", "--seed: \"x\" is not a number"),
            ("--minutes", "--minutes needs a number"),
        ] {
            let told = typed(words).expect_err("refused");
            assert!(told.starts_with(fault), "{words}: {told}");
        }
    }
}
