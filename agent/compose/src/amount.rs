//! Amounts as Compose writes them: durations (`1m30s`), sizes (`512M`), processors (`0.5`) and whole numbers.

use std::time::Duration;

use mesh_coordinator::spec::{Bytes, Cpu};

use crate::report::Fault;
use crate::tree::quoted;

/// The longest duration: a day. More is a slip of the pen wherever Compose takes a duration.
const DURATION_MAX: Duration = Duration::from_hours(24);

/// The most processors; no machine has more, and the product with a thousand stays far from the end of its type.
const CPUS_MAX: u64 = 4096;

/// The most digits of a number, in front of the point and behind it; 128 bits hold the product with every unit.
const DIGITS_MAX: usize = 15;

/// A number without sign or exponent: `value / 10^scale`.
#[derive(Clone, Copy)]
struct Decimal {
    value: u128,
    scale: u32,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits =
            |text: &str| text.len() <= DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit());
        let some = !(whole.is_empty() && part.is_empty());
        if !(some && digits(whole) && digits(part)) {
            return None;
        }
        let value = format!("0{whole}{part}").parse().ok()?;
        Some(Self { value, scale: u32::try_from(part.len()).ok()? })
    }

    /// The product with `unit`, and whether it is a whole number; what is behind the point is dropped.
    const fn times(self, unit: u128) -> (u128, bool) {
        let product = self.value.saturating_mul(unit);
        let divisor = 10_u128.saturating_pow(self.scale);
        (product / divisor, product.is_multiple_of(divisor))
    }
}

/// A duration, in whole milliseconds.
pub(crate) fn duration(text: &str) -> Result<Duration, Fault> {
    const HELP: &str = "write it with units, such as 500ms, 10s, 1m30s or 2h";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if Decimal::parse(text).is_some() {
        let found = format!("{} is a duration without a unit", quoted(text));
        return Err(Fault::new(found, format!("write {text}s for seconds, or use ms, m or h")));
    }
    let fault = || Fault::new(format!("{} is not a duration", quoted(text)), HELP);
    let mut micros = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fault)?;
        let (number, after) = rest.split_at_checked(end).ok_or_else(fault)?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).ok_or_else(fault)?;
        let unit = match unit {
            "us" | "µs" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return Err(fault()),
        };
        let (product, whole) = Decimal::parse(number).ok_or_else(fault)?.times(unit);
        micros = micros.saturating_add(product);
        if !whole || product % 1_000 != 0 {
            let found = format!("{} is not a whole number of milliseconds", quoted(text));
            return Err(Fault::new(found, "the smallest step is 1ms"));
        }
        rest = after;
    }
    if text.is_empty() {
        return Err(fault());
    }
    let millis = u64::try_from(micros / 1_000).unwrap_or(u64::MAX);
    let duration = Duration::from_millis(millis);
    if duration > DURATION_MAX {
        return Err(Fault::new(format!("{} is too long", quoted(text)), "at most 24h"));
    }
    Ok(duration)
}

/// A duration that is not zero.
pub(crate) fn pause(text: &str) -> Result<Duration, Fault> {
    match duration(text)? {
        Duration::ZERO => {
            Err(Fault::new(format!("{} is no time at all", quoted(text)), "at least 1ms"))
        }
        duration => Ok(duration),
    }
}

/// An amount of memory; `k`, `m`, `g` and `t` are powers of 1024, as in Docker.
pub(crate) fn size(text: &str) -> Result<Bytes, Fault> {
    let fault = |found: &str| {
        let help = "write a number of bytes, or one with a unit, such as 64k, 512M or 1.5g";
        Fault::new(format!("{} {found}", quoted(text)), help)
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(fault("is not a size")),
    };
    let number = Decimal::parse(number).ok_or_else(|| fault("is not a size"))?;
    let (bytes, _) = number.times(1_u128 << (10 * power));
    // The kernel counts memory in signed numbers.
    let bytes = i64::try_from(bytes).map_err(|_range| fault("is more than there can be"))?;
    Ok(Bytes(bytes.unsigned_abs()))
}

/// Processor time, in thousandths of a core.
pub(crate) fn cpus(text: &str) -> Result<Cpu, Fault> {
    let fault = |found: &str, help: &str| Fault::new(format!("{} {found}", quoted(text)), help);
    let Some(number) = Decimal::parse(text) else {
        return Err(fault("is not a number of processors", "write it as 2 or 0.5"));
    };
    let (millis, whole) = number.times(1_000);
    if !whole {
        return Err(fault(
            "is finer than a thousandth of a processor",
            "write at most three decimals",
        ));
    }
    match u64::try_from(millis) {
        Ok(millis) if millis <= CPUS_MAX * 1_000 => Ok(Cpu { millis }),
        _ => Err(fault("is more than there can be", "at most 4096")),
    }
}

/// A whole number between two bounds, without the notations whose meaning depends on the version of YAML.
pub(crate) fn whole(text: &str, least: u32, most: u32) -> Result<u32, Fault> {
    let help = format!("write a whole number from {least} to {most}");
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits && text.len() > 1 && text.starts_with('0') {
        let found = format!("{text} is octal for some readers and decimal for others");
        let bare = text.trim_start_matches('0');
        let help = format!("write {}", if bare.is_empty() { "0" } else { bare });
        return Err(Fault::new(found, help));
    }
    if !digits {
        return Err(Fault::new(format!("{} is not a whole number", quoted(text)), help));
    }
    match text.parse::<u32>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Fault::new(format!("{} is out of range", quoted(text)), help)),
    }
}

/// Yes or no. The words of YAML 1.1 mean what they say.
pub(crate) fn truth(text: &str) -> Result<bool, Fault> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Ok(true),
        "false" | "no" | "off" | "n" => Ok(false),
        _ => Err(Fault::new(
            format!("{} is neither true nor false", quoted(text)),
            "write true or false",
        )),
    }
}

#[cfg(test)]
mod tests;
