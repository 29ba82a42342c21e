//! What it says of itself.

use crate::program::run;

#[test]
fn help_lists_every_command() {
    for option in ["-h", "--help"] {
        let help = run(&[option]).succeeded();
        for command in
            ["run", "dev", "check-config", "inspect", "backup", "--config <FILE>", "--run <RUN>", "--version"]
        {
            assert!(help.contains(command), "{command} is missing in:\n{help}");
        }
    }
}

#[test]
fn every_command_explains_its_options() {
    for (command, options) in [
        ("run", &["--config"][..]),
        ("dev", &["--rate", "--workers", "--for", "--store", "--log", "--grpc-port", "--http-port"]),
        ("check-config", &["--config"]),
        ("inspect", &["<FILE>", "--json"]),
        ("backup", &["<FILE>", "--from"]),
    ] {
        let help = run(&[command, "--help"]).succeeded();
        for option in options {
            assert!(help.contains(option), "{command}: {option} is missing in:\n{help}");
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(run(&["--version"]).succeeded(), format!("taskbroker {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2_and_a_hint() {
    for wrong in [&["inspekt", "file"][..], &["inspect"], &["--nonsense"], &["dev", "--rate", "many"]] {
        let ended = run(wrong);
        assert_eq!(ended.code, Some(2), "{wrong:?}");
        assert!(ended.stderr.contains("--help"), "{wrong:?}: {}", ended.stderr);
    }
}
