//! `stop_signal`: a signal by its name or number.

use mesh_coordinator::spec::StopSignal;

use crate::report::Fault;
use crate::tree::quoted;

/// The names of the signals 1 to 31 on Linux, in their order.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first and the last of the signals without names of their own, as programs see them.
const REAL_TIME: (u8, u8) = (34, 64);

/// The signal of this name, with or without `SIG`, or of this number.
pub(crate) fn stop_signal(text: &str) -> Result<StopSignal, Fault> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number =
        NAMES.iter().zip(1_u8..).find(|(known, _)| **known == name).map(|(_, number)| number);
    let offset = |text: &str, sign: char| match text {
        "" => Some(0),
        text => text.strip_prefix(sign)?.parse::<u8>().ok(),
    };
    let (first, last) = REAL_TIME;
    let number = number
        .or_else(|| first.checked_add(offset(name.strip_prefix("RTMIN")?, '+')?))
        .or_else(|| last.checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?))
        .or_else(|| upper.parse().ok());
    number.and_then(StopSignal::from_number).ok_or_else(|| {
        let found = format!("{} is not a signal", quoted(text));
        Fault::new(found, "write a name such as SIGTERM or SIGRTMIN+3, or a number from 1 to 64")
    })
}

#[cfg(test)]
mod tests {
    use super::stop_signal;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("quit", 3),
            ("SIGSYS", 31),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("RTMAX-1", 63),
            ("9", 9),
            ("64", 64),
        ] {
            assert_eq!(stop_signal(text).unwrap().number(), number, "{text}");
        }
        for text in ["", "SIG", "0", "65", "TERMINATE", "RTMIN3", "RTMIN+200", "RTMAX-64", "-1"] {
            assert!(stop_signal(text).is_err(), "{text}");
        }
    }
}
