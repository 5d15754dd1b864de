//! Images that are fetched ahead of time, so that a slot whose holder dies starts at once elsewhere.

use std::time::Duration;

use super::{Effect, NEW, Script};
use crate::fact::Phase;
use crate::rules::Rules;

/// How many images are fetched within five seconds.
fn n_fetched(script: &mut Script) -> usize {
    script.act_until(script.now + Duration::from_secs(5));
    std::mem::take(&mut script.out)
        .into_iter()
        .filter(|effect| matches!(effect, Effect::Prefetch(_)))
        .count()
}

#[test]
fn who_is_next_in_rank_fetches_an_image_once() {
    let mut script = Script::new(Rules::ALL, 1, 1);
    script.says(0, NEW, Phase::Ready, false);
    assert_eq!(n_fetched(&mut script), 1);
    script.says(0, NEW, Phase::Ready, false);
    assert_eq!(n_fetched(&mut script), 0, "it has that already");
    script.spec().template.image.digest = "sha256:another".to_owned();
    assert_eq!(n_fetched(&mut script), 1);
}

#[test]
fn who_is_far_down_in_rank_fetches_nothing() {
    // The holder is last in rank, with what it has already, and no heir of its own.
    let mut script = Script::new(Rules::ALL, 3, 1);
    script.says(0, NEW, Phase::Ready, false);
    assert_eq!(n_fetched(&mut script), 0);
}
