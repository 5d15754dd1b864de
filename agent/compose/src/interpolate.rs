//! Variables in values: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${NAME:+replacement}` and `$$`.
//!
//! The forms without a colon look only at whether the variable is set, those with one also at whether it is empty. Defaults
//! may hold variables themselves. Only values are interpolated, never keys, as Compose has it.

use crate::report::Fault;

/// Says what a variable is; `None` when it is not set.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How deep defaults may hold defaults; each level costs stack.
const DEPTH_MAX: usize = 16;

/// The most text that the variables of one value may become.
const TEXT_LEN_MAX: usize = 1 << 20;

/// An expression that has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The expression as it stands in the source.
    pub(crate) expression: String,
    /// What is wrong with it.
    pub(crate) fault: Fault,
}

/// The text with its variables replaced; the names of those that have no value are added to `unset`.
pub(crate) fn interpolate(
    text: &str,
    lookup: Lookup<'_>,
    unset: &mut Vec<String>,
) -> Result<String, Broken> {
    expand(text, lookup, DEPTH_MAX, unset)
}

fn expand(
    text: &str,
    lookup: Lookup<'_>,
    depth: usize,
    unset: &mut Vec<String>,
) -> Result<String, Broken> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if result.len() > TEXT_LEN_MAX {
            return Err(broken(before, "the variables make more than 1 MiB of text", "use fewer"));
        }
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some((body, after)) = split_brace(inside) else {
                let found = "the variable's brace is not closed";
                let line = after.lines().next().unwrap_or_default();
                return Err(broken(
                    &format!("${line}"),
                    found,
                    "write ${NAME}, or $$ for a dollar sign",
                ));
            };
            result.push_str(&expression(body, lookup, depth, unset)?);
            rest = after;
        } else {
            let (name, after) = split_name(after);
            if name.is_empty() {
                let next: String = after.chars().take(1).collect();
                let found = "a dollar sign stands before no name";
                return Err(broken(
                    &format!("${next}"),
                    found,
                    "write ${NAME}, or $$ for a dollar sign",
                ));
            }
            result.push_str(&value_of(name, lookup, unset));
            rest = after;
        }
    }
    result.push_str(rest);
    Ok(result)
}

fn broken(expression: &str, found: &str, help: &str) -> Broken {
    Broken { expression: expression.to_owned(), fault: Fault::new(found, help) }
}

fn value_of(name: &str, lookup: Lookup<'_>, unset: &mut Vec<String>) -> String {
    lookup(name).unwrap_or_else(|| {
        unset.push(name.to_owned());
        String::new()
    })
}

/// The name at the beginning, possibly empty, and what follows it.
fn split_name(text: &str) -> (&str, &str) {
    let fits = |(index, c): (usize, char)| {
        c == '_' || c.is_ascii_alphabetic() || (index > 0 && c.is_ascii_digit())
    };
    let end = text.char_indices().find(|found| !fits(*found)).map_or(text.len(), |(end, _)| end);
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// What is before the brace that closes, and what is after it.
fn split_brace(text: &str) -> Option<(&str, &str)> {
    let mut open = 0_usize;
    let mut previous = ' ';
    for (index, c) in text.char_indices() {
        match c {
            '$' if previous == '$' => {
                previous = ' ';
                continue;
            }
            '{' if previous == '$' => open += 1,
            '}' if open == 0 => {
                let (body, after) = text.split_at_checked(index)?;
                return Some((body, after.strip_prefix('}')?));
            }
            '}' => open -= 1,
            _ => {}
        }
        previous = c;
    }
    None
}

/// The value of what is between the braces.
fn expression(
    body: &str,
    lookup: Lookup<'_>,
    depth: usize,
    unset: &mut Vec<String>,
) -> Result<String, Broken> {
    let whole = format!("${{{body}}}");
    let (name, operation) = split_name(body);
    if name.is_empty() {
        return Err(broken(&whole, "the braces hold no variable's name", "write ${NAME}"));
    }
    if operation.is_empty() {
        return Ok(value_of(name, lookup, unset));
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(broken(&whole, "defaults are nested too deeply", "use fewer levels"));
    };
    let (counts_empty, operation) =
        operation.strip_prefix(':').map_or((false, operation), |rest| (true, rest));
    let value = lookup(name).filter(|value| !(counts_empty && value.is_empty()));
    let mut operands = operation.chars();
    let operator = operands.next();
    let operand = operands.as_str();
    match (operator, value) {
        (Some('-' | '?'), Some(value)) => Ok(value),
        (Some('+'), None) => Ok(String::new()),
        (Some('-'), None) | (Some('+'), Some(_)) => expand(operand, lookup, depth, unset),
        (Some('?'), None) => {
            let message = expand(operand, lookup, depth, unset)?;
            let found = match message.as_str() {
                "" => format!("the variable {name} is required and not set"),
                message => format!("the variable {name} is required and not set: {message}"),
            };
            Err(broken(&whole, &found, "set it in the environment or in .env"))
        }
        _ => {
            let found =
                format!("{} cannot follow the variable's name", crate::tree::quoted(operation));
            Err(broken(
                &whole,
                &found,
                "write ${NAME:-default}, ${NAME:?message} or ${NAME:+replacement}",
            ))
        }
    }
}

#[cfg(test)]
mod tests;
