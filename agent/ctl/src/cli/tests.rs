//! The command line is well formed, and every help text is as it was.

use clap::Command;

use super::definition;

#[test]
fn the_command_line_is_well_formed() {
    definition().debug_assert();
}

#[test]
fn every_help_text() {
    let mut definition = definition();
    definition.build();
    let mut texts = Vec::new();
    collect(&mut definition, "agentctl", &mut texts);
    insta::assert_snapshot!(texts.join("\n"));
}

fn collect(command: &mut Command, name: &str, texts: &mut Vec<String>) {
    let help = command.render_help();
    // The options of every command are shown once, at the top.
    let text = match help.to_string().split_once("Options of every command") {
        Some((own, _)) if name != "agentctl" => {
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            format!("{}\n\n{example}\n", own.trim_end())
        }
        _ => help.to_string(),
    };
    texts.push(format!("# {name}\n{text}"));
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .filter(|sub| sub != "help")
        .collect();
    for sub in names {
        if let Some(sub_command) = command.find_subcommand_mut(&sub) {
            collect(sub_command, &format!("{name} {sub}"), texts);
        }
    }
}
