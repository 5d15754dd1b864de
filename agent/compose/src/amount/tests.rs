//! Amounts read what they print, and refuse what is not an amount.

use std::time::Duration;

use mesh_coordinator::spec::{Bytes, Cpu};
use proptest::prelude::*;

use super::{cpus, duration, pause, size, truth, whole};

fn print_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (h, m, s, ms) =
        (millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60, millis % 1_000);
    format!("{h}h{m}m{s}s{ms}ms")
}

#[test]
fn durations_add_their_parts() {
    for (text, millis) in [
        ("0", 0),
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("1.5s", 1_500),
        ("500ms", 500),
        ("2000us", 2),
    ] {
        assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
    }
    for text in
        ["", "10", "s", "-1s", "1s2", "1x", "25h", "1us", " 1s", "1..s", "99999999999999999999h"]
    {
        assert!(duration(text).is_err(), "{text}");
    }
    assert!(pause("0s").is_err());
}

#[test]
fn sizes_are_powers_of_1024() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("64k", 64 << 10),
        ("1gb", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("2 m", 2 << 20),
        ("7b", 7),
    ] {
        assert_eq!(size(text).unwrap(), Bytes(bytes), "{text}");
    }
    for text in ["", "g", "-1", "1x", "1e3", "9223372036854775808", "8388608t"] {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn numbers_that_depend_on_the_reader_are_refused() {
    assert_eq!(whole("010", 0, 100).unwrap_err().help, "write 10");
    assert_eq!(whole("00", 0, 100).unwrap_err().help, "write 0");
    for text in ["1_000", "0x10", "+5", "1.0", "", "4294967296"] {
        assert!(whole(text, 0, u32::MAX).is_err(), "{text}");
    }
}

#[test]
fn truths_have_the_words_of_both_versions_of_yaml() {
    for (text, expected) in
        [("true", true), ("Yes", true), ("on", true), ("OFF", false), ("n", false)]
    {
        assert_eq!(truth(text).unwrap(), expected);
    }
    assert!(truth("1").is_err());
}

proptest! {
    #[test]
    fn a_printed_duration_reads_as_itself(millis in 0_u64..=86_400_000) {
        let expected = Duration::from_millis(millis);
        prop_assert_eq!(duration(&print_duration(expected)), Ok(expected));
        prop_assert_eq!(duration(&format!("{millis}ms")), Ok(expected));
    }

    #[test]
    fn a_printed_size_reads_as_itself(bytes in 0_u64..1 << 62, unit in 0_usize..4) {
        let (name, shift) = [("", 0), ("k", 10), ("m", 20), ("g", 30)][unit];
        let bytes = bytes >> shift << shift;
        prop_assert_eq!(size(&format!("{}{name}", bytes >> shift)).is_ok(), (bytes >> shift) < 1_000_000_000_000_000);
        let bytes = bytes % (1 << 49);
        prop_assert_eq!(size(&bytes.to_string()), Ok(Bytes(bytes)));
    }

    #[test]
    fn a_printed_amount_of_processors_reads_as_itself(millis in 0_u64..=4_096_000) {
        let cpu = Cpu { millis };
        prop_assert_eq!(cpus(&cpu.to_string()), Ok(cpu));
    }

    #[test]
    fn no_text_makes_an_amount_panic(text in "[0-9.a-zµ -]{0,40}") {
        drop((duration(&text), size(&text), cpus(&text), whole(&text, 0, 9), truth(&text)));
    }
}
