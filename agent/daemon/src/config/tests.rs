//! The example of a configuration file is complete and true.

use super::{Config, File};

const EXAMPLE: &str = include_str!("../../../../deploy/examples/agent.toml");

/// The example with all its settings switched on: `#name = value` is a setting, `# text` is not.
fn every_setting() -> File {
    let setting = |line: &'static str| {
        line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    let settings: Vec<&str> = EXAMPLE.lines().filter_map(setting).collect();
    toml::from_str(&settings.join("\n")).unwrap()
}

#[test]
fn the_example_changes_nothing_as_it_is() {
    let example: File = toml::from_str(EXAMPLE).unwrap();
    let changed = format!("{:?}", Config::try_from(example).unwrap());
    assert_eq!(changed, format!("{:?}", Config::try_from(File::default()).unwrap()));
}

#[test]
fn the_example_lists_every_setting() {
    // No `..`: a new setting does not compile here until the example has it.
    let File {
        data_dir,
        run_dir,
        listen,
        advertise,
        bridge,
        container_range,
        nameservers,
        cpu,
        memory,
        witness_only,
        log,
        log_json,
        wall_clock_offset,
    } = every_setting();
    assert!(data_dir.is_some() && run_dir.is_some() && listen.is_some() && advertise.is_some());
    assert!(bridge.is_some() && container_range.is_some() && nameservers.is_some());
    assert!(cpu.is_some() && memory.is_some() && witness_only.is_some());
    assert!(log.is_some() && log_json.is_some() && wall_clock_offset.is_some());
}

#[test]
fn the_example_shows_the_defaults() {
    let shown = Config::try_from(every_setting()).unwrap();
    let default = Config::try_from(File::default()).unwrap();
    assert_eq!((&shown.data_dir, &shown.run_dir), (&default.data_dir, &default.run_dir));
    assert_eq!(shown.listen, default.listen);
    assert_eq!(shown.bridge, default.bridge);
    assert_eq!(shown.container_range, default.container_range);
    assert_eq!((&shown.log, shown.log_json), (&default.log, default.log_json));
    assert_eq!(shown.wall_clock_offset_ms, default.wall_clock_offset_ms);
}

#[test]
fn an_unknown_setting_is_refused() {
    let refused = toml::from_str::<File>("data_dri = \"/tmp\"").unwrap_err();
    assert!(refused.message().contains("data_dri"), "{refused}");
}
