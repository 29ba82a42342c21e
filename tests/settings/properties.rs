//! What holds for any input.

use proptest::prelude::*;
use taskbroker::settings::{Problem, SettingsError, Sources, load, render_effective};

/// Keys of every type, known and unknown, whole sections and single values.
const KEYS: [&str; 30] = [
    "delivery_mode",
    "worker_map",
    "worker_map__one",
    "grpc_shared_secret",
    "default_metrics_tags",
    "raw_mode",
    "kafka_topics__a__raw__taskname",
    "kafka_topics__a__raw",
    "push_timeout_ms",
    "fetch__threads",
    "statsd_addr",
    "runtime_config_path",
    "create_missing_topics",
    "grpc_tls_key",
    "log_filter",
    "log_format",
    "grpc_addr",
    "grpc_port",
    "kafka_topics",
    "kafka_clusters",
    "kafka_topic",
    "kafka_retry_topic",
    "kafka_sasl_password",
    "store",
    "store__linger",
    "store__max_size",
    "store__sqlite__path",
    "kafka_topics__a__cluster",
    "push",
    "nothing",
];

/// Text that looks like YAML: keys, punctuation and values in any order.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned),
        prop::sample::select(vec![
            ": ",
            ":",
            "\n",
            "\n  ",
            "- ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&a ",
            "*a",
            "'",
            "\"",
            "!!str ",
            "!x ",
            "|\n",
            ">\n",
            "#",
            "---\n",
            "...\n",
            "? ",
            "<<",
            "%YAML 1.2\n",
            "\t",
            "~",
            "\u{feff}",
            "\r\n",
        ])
        .prop_map(str::to_owned),
        "[0-9a-z]{0,4}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn value_like() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), r#"[{}\[\]="',a-c0-9 \\]{0,30}"#, "[0-9]{1,30}(ms|s|d)?", "tcp://[0-9.:]{0,20}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_file_makes_the_loader_panic(text in prop_oneof![any::<String>(), yaml_like()]) {
        let sources = Sources::defaults().with_yaml("any.yaml", &text);
        match load(&sources) {
            Ok(loaded) => prop_assert!(!render_effective(&loaded).is_empty()),
            Err(error) => all_say_where(&error)?,
        }
    }

    #[test]
    fn no_environment_makes_the_loader_panic(
        variables in prop::collection::vec((prop::sample::select(KEYS.to_vec()), value_like()), 0..5),
        other in "[A-Z_]{0,20}",
    ) {
        let variables = variables.into_iter().map(|(key, value)| (format!("TASKBROKER_{}", key.to_uppercase()), value));
        let variables = variables.chain([(format!("TASKBROKER_{other}"), "x".to_owned())]);
        match load(&Sources::defaults().with_environment(variables)) {
            Ok(loaded) => prop_assert!(!render_effective(&loaded).is_empty()),
            Err(error) => all_say_where(&error)?,
        }
    }

    #[test]
    fn the_order_of_what_is_given_changes_nothing(
        (lines, shuffled) in assignments().prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
    ) {
        let by_file = |lines: &[(&str, String)]| {
            let text: String = lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
            outcome(&Sources::defaults().with_yaml("a.yaml", &text))
        };
        prop_assert_eq!(by_file(&lines), by_file(&shuffled));
        let by_environment = |lines: &[(&str, String)]| {
            let variables = lines.iter().map(|(key, value)| (format!("TASKBROKER_{}", key.to_uppercase()), value));
            outcome(&Sources::defaults().with_environment(variables))
        };
        prop_assert_eq!(by_environment(&lines), by_environment(&shuffled));
    }

    #[test]
    fn the_same_value_by_file_or_environment_is_the_same_setting(
        port in any::<u16>(),
        count in 1_u32..1_000_000,
        linger in prop_oneof![(0_u32..=10_000).prop_map(|n| format!("{n}ms")), (0_u32..=10).prop_map(|n| format!("{n}s"))],
        format in prop::sample::select(vec!["text", "json", "JSON"]),
        size in prop_oneof![Just("null".to_owned()), (1_048_576_u64..1 << 60).prop_map(|n| n.to_string())],
        filter in any::<String>().prop_filter("a text that is not empty", |text| !text.is_empty()),
    ) {
        let quoted = serde_json::to_string(&filter).unwrap();
        // Not every text is YAML as JSON writes it; what it is written as by us is.
        let in_yaml = yaml_text(&filter);
        let text = format!(
            "grpc_port: {port}\nlog_format: {format}\nlog_filter: {in_yaml}\nhttp_port: 0\n\
             store: {{max_pending_count: {count}, linger: {linger}, max_size: {size}}}\n"
        );
        let by_file = load(&Sources::defaults().with_yaml("a.yaml", &text)).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        let by_environment = load(&Sources::defaults().with_environment([
            ("TASKBROKER_GRPC_PORT", port.to_string()),
            ("TASKBROKER_HTTP_PORT", "0".to_owned()),
            ("TASKBROKER_LOG_FORMAT", format.to_owned()),
            ("TASKBROKER_LOG_FILTER", quoted),
            ("TASKBROKER_STORE__MAX_PENDING_COUNT", count.to_string()),
            ("TASKBROKER_STORE", format!("{{linger={linger}, max_size={size}}}")),
        ])).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&by_file.settings.log.filter, &filter);
        prop_assert_eq!(format!("{:?}", by_file.settings), format!("{:?}", &by_environment.settings));

        let shown = render_effective(&by_environment);
        let again = load(&Sources::defaults().with_yaml("shown.yaml", &shown)).map_err(|e| TestCaseError::fail(format!("{e}\n{shown}")))?;
        prop_assert_eq!(format!("{:?}", again.settings), format!("{:?}", &by_environment.settings));
    }

    #[test]
    fn unquoted_text_by_the_environment_is_taken_as_it_stands(text in "[a-z0-9@/+*.{}=\\[\\]-][ -~]{0,20}[a-z0-9]") {
        prop_assume!(!text.starts_with('"'));
        let variables = [("TASKBROKER_LOG_FILTER", text.as_str())];
        let loaded = load(&Sources::defaults().with_environment(variables)).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(loaded.settings.log.filter, text);
    }
}

/// Every problem names a setting, or the place in the file where its text cannot be read.
fn all_say_where(error: &SettingsError) -> Result<(), TestCaseError> {
    prop_assert!(!error.problems.is_empty());
    for problem in &error.problems {
        match problem {
            Problem::Value { key, .. } => prop_assert!(!key.to_string().is_empty(), "{problem}"),
            Problem::Combination { keys, .. } => prop_assert!(!keys.is_empty(), "{problem}"),
            Problem::Syntax { line, .. } => prop_assert!(*line > 0, "{problem}"),
            Problem::Missing { .. } | Problem::Unreadable { .. } => prop_assert!(false, "no file was named: {problem}"),
        }
    }
    Ok(())
}

/// What comes of the sources, but for line numbers: settings, warnings and problems.
fn outcome(sources: &Sources) -> (Option<String>, Vec<String>) {
    let without_lines =
        |text: String| text.split(" line ").map(|part| part.trim_start_matches(char::is_numeric)).collect::<String>();
    let (settings, said) = match load(sources) {
        Ok(loaded) => {
            let said = loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
            (Some(format!("{:?}", loaded.settings)), said)
        }
        Err(error) => (None, error.problems.iter().map(ToString::to_string).collect()),
    };
    let mut said: Vec<_> = said.into_iter().map(without_lines).collect();
    said.sort();
    (settings, said)
}

/// Some settings, each given once, right or wrong, of both generations.
fn assignments() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let value = prop_oneof![
        prop::sample::select(vec!["true", "false", "push", "pull", "{}", "[]", "null", "x"]).prop_map(str::to_owned),
        (0_u32..100_000).prop_map(|number| number.to_string()),
        (0_u32..5000).prop_map(|number| format!("{number}ms")),
    ];
    let keys = vec![
        "grpc_port",
        "http_port",
        "delivery_mode",
        "push_timeout_ms",
        "push_threads",
        "max_pending_count",
        "raw_mode",
        "raw_taskname",
        "kafka_topic",
        "kafka_retry_topic",
        "kafka_deadletter_topic",
        "kafka_long_topic",
        "max_message_size",
        "default_application",
        "shutdown_timeout",
        "kafka_delivery_timeout",
        "unknown_key",
        "kafka_session_timeout_ms",
        "canary_tasks",
        "statsd_addr",
    ];
    let chosen = prop::sample::subsequence(keys, 1..8);
    (chosen, prop::collection::vec(value, 8)).prop_map(|(keys, values)| keys.into_iter().zip(values).collect())
}

/// Double-quoted YAML in which everything but printable ASCII is escaped.
fn yaml_text(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ => format!("\\U{:08x}", u32::from(c)),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}
