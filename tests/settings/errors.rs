//! What is refused, and how it is said.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use taskbroker::settings::{Sources, WarningKind, load};

use super::{MAPS, environment, environment_problems, problems, warnings, yaml, yaml_problems};

#[test]
fn a_file_that_does_not_exist_is_an_error_that_names_it() {
    let said = problems(&Sources::defaults().with_file("no/such/file.yaml"));
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("the configuration file no/such/file.yaml does not exist, neither in"), "{said:?}");
    let said = problems(&Sources::defaults().with_file("/no/such/file.yaml"));
    assert_eq!(said, ["the configuration file /no/such/file.yaml does not exist"]);
}

#[test]
fn a_directory_in_place_of_a_file_is_an_error() {
    let said = problems(&Sources::defaults().with_file(env!("CARGO_MANIFEST_DIR")));
    assert!(said[0].contains("cannot be read"), "{said:?}");
}

#[test]
fn a_syntax_error_names_line_and_column() {
    let said = yaml_problems("grpc_port: 1\nlog_format: [text\nhttp_port: 2\n");
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("test.yaml line ") && said[0].contains(", column "), "{said:?}");
}

#[test]
fn a_key_that_is_given_twice_is_an_error() {
    assert_eq!(
        yaml_problems("grpc_port: 1\ngrpc_port: 2\n"),
        ["test.yaml line 2, column 1: the key grpc_port is given twice"]
    );
}

#[test]
fn a_file_of_another_shape_is_an_error() {
    assert!(yaml_problems("- a\n- b")[0].contains("expected `key: value` lines"));
    assert!(yaml_problems("a: 1\n---\nb: 1")[0].contains("a second document begins"));
    assert!(yaml_problems("grpc_port: !!int 5")[0].contains("tag"));
    assert!(yaml_problems("{a: 1}: 2")[0].contains("a key must be a word"));
}

#[test]
fn deep_nesting_and_endless_repetition_are_refused_without_harm() {
    for opener in ["[", "{a: ", "- ", "a:\n "] {
        let said = yaml_problems(&format!("x: {}", opener.repeat(50_000)));
        assert!(said[0].starts_with("test.yaml line "), "{said:?}");
    }
    let mut laughs = "l0: &l0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for level in 1..12 {
        let below = format!("*l{},", level - 1).repeat(10);
        laughs.push_str(&format!("l{level}: &l{level} [{below}]\n"));
    }
    assert!(yaml_problems(&laughs)[0].contains("more than 10000 values"));
    assert!(yaml_problems("a: &a [*a]")[0].contains("the alias stands inside what it names"));
}

#[test]
fn a_wrong_type_names_the_key_the_value_and_the_place() {
    assert_eq!(
        yaml_problems("\ngrpc_port: '5005l'"),
        ["grpc_port = \"5005l\" (test.yaml line 2): expected a whole number"]
    );
    assert_eq!(
        environment_problems(&[("TASKBROKER_STORE__MAX_PENDING_COUNT", "many")]),
        [
            "store.max_pending_count = many (environment variable TASKBROKER_STORE__MAX_PENDING_COUNT): expected a whole number"
        ]
    );
    assert_eq!(
        yaml_problems("kafka_deadletter_topic: 5"),
        ["kafka_deadletter_topic = 5 (test.yaml line 1): expected a text; put it in quotes"]
    );
    assert_eq!(yaml_problems("store: 5"), ["store (test.yaml line 1): expected a section with keys of its own"]);
    assert_eq!(
        yaml_problems("grpc_port: [1]"),
        ["grpc_port (test.yaml line 1): expected a single value, found a list"]
    );
    assert_eq!(
        environment_problems(&[("TASKBROKER_GRPC_PORT__X", "1")]),
        ["grpc_port (environment variable TASKBROKER_GRPC_PORT__X): expected a single value, found a section"]
    );
    assert_eq!(
        yaml_problems("grpc_addr: localhost"),
        [
            "grpc_addr = \"localhost\" (test.yaml line 1): expected an IP address such as 127.0.0.1, 0.0.0.0 or \"::\"; host \
          names are not resolved here"
        ]
    );
    assert_eq!(
        yaml_problems("grpc_port:"),
        ["grpc_port (test.yaml line 1): has no value; remove the key to have the default"]
    );
}

#[test]
fn a_number_out_of_range_names_the_range() {
    for (text, said) in [
        ("grpc_port: 65536", "grpc_port = 65536 (test.yaml line 1): expected a number from 0 to 65535"),
        ("grpc_port: -1", "grpc_port = -1 (test.yaml line 1): expected a number that is not negative"),
        (
            "store: {max_pending_count: 0}",
            "store.max_pending_count = 0 (test.yaml line 1): expected a number of at least 1",
        ),
        ("store: {linger: 11s}", "store.linger = 11s (test.yaml line 1): out of range: expected 0 to 10s"),
        ("shutdown_timeout: 1m", "shutdown_timeout = 1m (test.yaml line 1): out of range: expected 100ms to 10s"),
        (
            "kafka_commit_interval: 1s",
            "kafka_commit_interval = 1s (test.yaml line 1): out of range: expected 1ms to 100ms",
        ),
        (
            "store: {max_size: 5}",
            "store.max_size = 5 (test.yaml line 1): out of range: expected 1048576 to 18446744073709551615",
        ),
    ] {
        assert_eq!(yaml_problems(text), [said]);
    }
}

#[test]
fn an_unknown_word_names_the_known_ones() {
    assert_eq!(
        yaml_problems("log_format: xml"),
        ["log_format = \"xml\" (test.yaml line 1): expected one of: text | json"]
    );
    assert_eq!(
        yaml_problems("kafka_auto_offset_reset: never"),
        ["kafka_auto_offset_reset = \"never\" (test.yaml line 1): expected one of: earliest | latest"]
    );
}

#[test]
fn a_duration_without_a_unit_is_refused_with_a_hint() {
    let said = yaml_problems("store: {linger: 200}");
    assert_eq!(said, ["store.linger = 200 (test.yaml line 1): a duration needs a unit: 200ms, 200s, 200m, 200h?"]);
    assert!(environment_problems(&[("TASKBROKER_STORE__LINGER", "5")])[0].contains("needs a unit"));
    assert!(yaml_problems("store: {linger: 1.5s}")[0].contains("expected a duration"));
    assert!(yaml("store: {linger: 0}").settings.store.linger.is_zero());
    assert!(environment(&[("TASKBROKER_STORE__LINGER", "0")]).settings.store.linger.is_zero());
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = format!("{MAPS}\nlog_format: xml\ngrpc_port: x\nstore: {{linger: 5, max_size: no}}\nraw_mode: yes");
    let said = yaml_problems(&text);
    assert_eq!(said.len(), 5, "{said:#?}");
    let error = load(&Sources::defaults().with_yaml("test.yaml", &text)).unwrap_err().to_string();
    assert!(error.starts_with("the configuration cannot be used, for 5 reasons:\n  - "), "{error}");
}

#[test]
fn what_is_not_supported_and_must_not_be_ignored_is_refused() {
    let said = yaml_problems("store: {adapter: postgres, pg: {password: hunter2}}");
    assert_eq!(
        said,
        ["store.adapter = \"postgres\" (test.yaml line 1): the postgres adapter is not supported yet: use sqlite"]
    );
}

#[test]
fn impossible_combinations_are_refused() {
    let said = yaml_problems("grpc_port: 7\nhttp_port: 7");
    assert_eq!(said, ["grpc_port, http_port: both listen at port 7: give http_port another number, or 0 to open none"]);
    assert!(yaml("grpc_port: 7\nhttp_port: 7\ngrpc_addr: 127.0.0.2").settings.grpc_listen.is_some());
    let said = yaml_problems("kafka_delivery_timeout: 10m");
    assert!(said[0].starts_with("store.tombstones_keep, kafka_delivery_timeout: a removed retry"), "{said:?}");
    let said = yaml_problems("max_message_size: 50000000\nstore: {payload_memory_bytes: 10000000}");
    assert!(said[0].starts_with("store.payload_memory_bytes, max_message_size:"), "{said:?}");
}

#[test]
fn an_unknown_key_is_a_warning_with_a_suggestion_where_one_is_close() {
    let loaded = yaml(&format!("{MAPS}  # nothing\ndb_name: x\ngrcp_port: 5\nstore: {{lingr: 5, adapter: sqlite}}"));
    assert_eq!(
        warnings(&loaded, WarningKind::Unknown),
        [
            "db_name (test.yaml line 7): there is no such setting",
            "grcp_port (test.yaml line 8): there is no such setting; did you mean grpc_port?",
            "store.lingr (test.yaml line 9): there is no such setting; did you mean store.linger?",
        ]
    );
    let text = MAPS.replace("consumer_group: workers", "consumer_group: g, produce_onyl: true");
    assert_eq!(
        warnings(&yaml(&text), WarningKind::Unknown),
        ["kafka_topics.tasks.produce_onyl (test.yaml line 5): there is no such setting; did you mean \
          kafka_topics.tasks.produce_only?"]
    );
    assert_eq!(
        warnings(&environment(&[("TASKBROKER_GRCP_PORT", "1")]), WarningKind::Unknown),
        ["grcp_port (environment variable TASKBROKER_GRCP_PORT): there is no such setting; did you mean grpc_port?"]
    );
    assert_eq!(
        warnings(&environment(&[("TASKBROKER_STORE__MAX_SIZ", "1"), ("OTHER", "1")]), WarningKind::Unknown),
        ["store.max_siz (environment variable TASKBROKER_STORE__MAX_SIZ): there is no such setting; did you mean \
          store.max_size?"]
    );
}

#[test]
fn the_switches_of_tests_and_ci_are_no_settings() {
    let loaded = environment(&[
        ("TASKBROKER_TEST_REQUIRE_KAFKA", "1"),
        ("TASKBROKER_CI_CACHE", "/x"),
        ("TASKBROKER_KAFKA_CACHE", "/y"),
    ]);
    assert_eq!(warnings(&loaded, WarningKind::Unknown), Vec::<String>::new());
}

#[test]
fn variables_that_kubernetes_makes_for_services_are_ignored_with_one_warning_that_explains_them() {
    let loaded = environment(&[
        ("TASKBROKER_GRPC_PORT", "tcp://10.0.0.1:50051"),
        ("TASKBROKER_GRPC_SERVICE_HOST", "10.0.0.1"),
        ("TASKBROKER_GRPC_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("TASKBROKER_SERVICE_PORT_GRPC", "50051"),
        ("TASKBROKER_PORT", "tcp://10.0.0.1:50051"),
    ]);
    assert_eq!(loaded.settings.grpc_listen.map(|address| address.port()), Some(50051));
    let said = warnings(&loaded, WarningKind::ServiceLink);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("enableServiceLinks: false"), "{said:?}");
    assert_eq!(said[0].matches("environment variable").count(), 5, "{said:?}");
    assert_eq!(warnings(&loaded, WarningKind::Unknown), Vec::<String>::new());
}

#[test]
fn text_that_is_not_utf8_is_an_error_for_a_setting_and_nothing_otherwise() {
    let bytes = || OsString::from_vec(vec![b'a', 0xff]);
    let sources = Sources::defaults().with_environment([
        (OsString::from("TASKBROKER_LOG_FILTER"), bytes()),
        (OsString::from("PATH"), bytes()),
        (bytes(), bytes()),
    ]);
    assert_eq!(problems(&sources), ["log_filter (environment variable TASKBROKER_LOG_FILTER): its value is not UTF-8"]);
}

#[test]
fn a_map_in_the_environment_that_is_none_is_refused_without_showing_it() {
    for value in ["{main={sasl_password=hunter2}", "hunter2", "{hunter2}", "{a={hunter2}}"] {
        let said = environment_problems(&[("TASKBROKER_KAFKA_CLUSTERS", value)]);
        assert!(said.iter().all(|line| line.starts_with("kafka_clusters")), "{said:?}");
        assert!(said.iter().all(|line| !line.contains("hunter2")), "{said:?}");
    }
}

#[test]
fn secrets_appear_nowhere() {
    let cluster = "security_protocol: sasl_ssl, sasl_mechanism: PLAIN, sasl_username: u, sasl_password: hunter2";
    let text = MAPS.replace("address: 'kafka:9092'", &format!("address: 'kafka:9092', {cluster}"));
    let text = format!("{text}\nsentry_dsn: https://hunter2@sentry\nmy_password: hunter2\nkafka_token: hunter2\n");
    let loaded = yaml(&text);
    let said = format!("{loaded:?}{}", taskbroker::settings::render_effective(&loaded));
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("sasl_password: \"<redacted>\""), "{said}");
    let sasl = loaded.settings.kafka.sources[0].cluster.sasl.clone().unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&sasl.password), "hunter2");

    let said = yaml_problems(&text.replace("sasl_password: hunter2", "sasl_password: [hunter2]"));
    assert!(said.iter().any(|line| line.contains("sasl_password")), "{said:?}");
    assert!(!said.concat().contains("hunter2"), "{said:?}");
    let said = yaml_problems(&text.replace("sasl_password: hunter2", "sasl_password: 1234567"));
    assert!(!said.concat().contains("1234567"), "{said:?}");
    let said = yaml_problems(&MAPS.replace("kafka:9092", "user:hunter2@kafka:9092"));
    assert!(
        said[0].starts_with("kafka_clusters.main.address (test.yaml") && !said.concat().contains("hunter2"),
        "{said:?}"
    );
}
