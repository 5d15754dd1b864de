//! Who runs a program: `user[:group]` by name or number, looked up in the image as Docker does.

use super::inside::Root;

/// The numbers behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The other groups of the user; none when a group was asked for by name or number.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// Looks a user up; `Err` says what the image lacks.
pub(super) fn look_up(root: &Root, wanted: &str) -> Result<User, String> {
    let read = |path| root.table(path).map_err(|error| format!("{path} of the image: {error}"));
    resolve(wanted, &read("/etc/passwd")?, &read("/etc/group")?)
}

fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (name, wanted_group) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = passwd.lines().filter_map(Entry::parse).find(|entry| {
        entry.name == name || name.parse::<u32>().is_ok_and(|number| number == entry.uid)
    });
    let uid = match (&entry, name.parse::<u32>()) {
        (Some(entry), _) => entry.uid,
        (None, Ok(number)) => number,
        (None, Err(_)) => return Err(format!("the image has no user {name:?} in /etc/passwd")),
    };
    let (gid, groups) = match wanted_group {
        Some(wanted) => (group_number(wanted, group)?, Vec::new()),
        None => {
            let gid = entry.as_ref().map_or(0, |entry| entry.gid);
            let name = entry.as_ref().map(|entry| entry.name);
            (gid, groups_of(name, group))
        }
    };
    let home = entry.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or("/");
    Ok(User { uid, gid, groups, home: home.to_owned() })
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("/");
        Some(Self { name, uid, gid, home })
    }
}

/// Name, number and members of a line of `/etc/group`.
fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let number = fields.nth(1)?.parse().ok()?;
    Some((name, number, fields.next().unwrap_or("")))
}

fn group_number(wanted: &str, group: &str) -> Result<u32, String> {
    let named = group.lines().filter_map(group_line).find(|(name, _, _)| *name == wanted);
    match (named, wanted.parse::<u32>()) {
        (Some((_, number, _)), _) => Ok(number),
        (None, Ok(number)) => Ok(number),
        (None, Err(_)) => Err(format!("the image has no group {wanted:?} in /etc/group")),
    }
}

fn groups_of(user: Option<&str>, group: &str) -> Vec<u32> {
    let Some(user) = user else { return Vec::new() };
    let lines = group.lines().filter_map(group_line);
    lines
        .filter(|(_, _, members)| members.split(',').any(|member| member == user))
        .map(|(_, number, _)| number)
        .collect()
}

#[cfg(test)]
mod tests {
    //! Docker's rules.

    use super::{User, resolve};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/srv/web:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:1001:\ndocker:x:99:other,web\n";

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let web = User { uid: 1000, gid: 1001, groups: vec![99], home: "/srv/web".to_owned() };
        assert_eq!(resolve("web", PASSWD, GROUP), Ok(web.clone()));
        assert_eq!(resolve("1000", PASSWD, GROUP), Ok(web.clone()));
        let alone = User { gid: 99, groups: Vec::new(), ..web };
        assert_eq!(resolve("web:docker", PASSWD, GROUP), Ok(alone.clone()));
        assert_eq!(resolve("1000:99", PASSWD, GROUP), Ok(alone));
    }

    #[test]
    fn a_number_needs_no_entry_and_a_name_does() {
        let stranger = User { uid: 4242, gid: 0, groups: Vec::new(), home: "/".to_owned() };
        assert_eq!(resolve("4242", PASSWD, GROUP), Ok(stranger));
        assert_eq!(resolve("", "", "").map(|user| user.uid), Ok(0));
        let missing = resolve("nobody", PASSWD, GROUP).expect_err("no such user");
        assert_eq!(missing, "the image has no user \"nobody\" in /etc/passwd");
        let missing = resolve("web:none", PASSWD, GROUP).expect_err("no such group");
        assert_eq!(missing, "the image has no group \"none\" in /etc/group");
    }
}
