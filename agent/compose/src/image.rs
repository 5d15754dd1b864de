//! The name of an image: `[registry[:port]/]path[:tag][@digest]`.

use crate::report::Fault;
use crate::tree::quoted;

/// The longest name that is accepted, with everything.
const LEN_MAX: usize = 512;

/// The longest tag, by the rules of the image format.
const TAG_LEN_MAX: usize = 128;

/// The name, if it is one; nothing is added to it.
pub(crate) fn image(text: &str) -> Result<String, Fault> {
    let fault = |why: &str, help: &str| {
        Err(Fault::new(format!("{} is not an image's name: {why}", quoted(text)), help))
    };
    if text.is_empty() || text.len() > LEN_MAX {
        return Err(Fault::new(
            if text.is_empty() {
                "the image's name is empty"
            } else {
                "the image's name is too long"
            },
            "write name:tag, such as nginx:1.29",
        ));
    }
    if text.contains("://") {
        return fault("it is an address", "leave out what is before the registry's name");
    }
    let (rest, digest) =
        text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return fault("the digest is malformed", "write @sha256: and 64 hexadecimal digits");
    }
    let (directory, last) = rest.rsplit_once('/').map_or((None, rest), |(d, last)| (Some(d), last));
    let (last, tag) = last.split_once(':').map_or((last, None), |(last, tag)| (last, Some(tag)));
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return fault("the tag is malformed", "a tag has letters, digits, '_', '.' and '-'");
    }
    let mut parts: Vec<&str> = directory.into_iter().flat_map(|text| text.split('/')).collect();
    if parts.first().is_some_and(|first| first.contains(['.', ':']) || *first == "localhost") {
        let registry = parts.remove(0);
        if !is_registry(registry) {
            return fault("the registry is malformed", "write host:port/name:tag");
        }
    }
    parts.push(last);
    if parts.iter().any(|part| part.chars().any(|c| c.is_ascii_uppercase())) {
        return fault("it has capital letters", "write it in small letters");
    }
    if !parts.into_iter().all(is_component) {
        return fault("a part of it is malformed", "write name:tag, such as nginx:1.29");
    }
    Ok(text.to_owned())
}

fn is_digest(text: &str) -> bool {
    let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.chars().all(lower))
}

fn is_tag(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=TAG_LEN_MAX).contains(&text.len())
        && text.chars().all(inside)
        && !text.starts_with(['.', '-'])
}

fn is_registry(text: &str) -> bool {
    let (host, port) =
        text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    !host.is_empty() && host.chars().all(inside) && port
}

fn is_component(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inside = |c: char| edge(c) || matches!(c, '.' | '_' | '-');
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(inside)
}

#[cfg(test)]
mod tests {
    use super::image;

    #[test]
    fn names_of_images_are_told_from_others() {
        let digest = format!("nginx@sha256:{}", "0a".repeat(32));
        for text in [
            "nginx",
            "nginx:1.29",
            "library/nginx",
            "localhost:5000/a/b-c:v1",
            "ghcr.io/x/y_z.q",
            &digest,
        ] {
            assert_eq!(image(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "Nginx",
            "nginx:",
            "nginx:a:b",
            "/nginx",
            "a//b",
            "nginx@sha256:12",
            "https://x/y",
            "a b",
        ] {
            assert!(image(text).is_err(), "{text}");
        }
    }
}
