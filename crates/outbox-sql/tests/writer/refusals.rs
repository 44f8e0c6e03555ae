//! What the view `outbox` refuses, whoever writes to it, with a message that names the column.

use rusqlite::{Connection, params_from_iter, types::Value};

use crate::fixture::Fixture;

/// Inserts and expects the refusal `said`, and that nothing of it is left.
fn refuse(columns: &str, values: &str, said: &str) {
    refuse_bound(columns, values, [], said);
}

fn refuse_bound<const N: usize>(columns: &str, values: &str, bound: [Value; N], said: &str) {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO outbox (key, type, data) VALUES ('known', 't', '1')");
    let sql = format!("INSERT INTO outbox ({columns}) VALUES ({values})");
    let error = fixture.connection.execute(&sql, params_from_iter(bound)).expect_err(&sql).to_string();
    assert!(error.starts_with("outbox: ") && error.contains(said), "{sql}: {error}");
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 1, "{sql}");
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_heads"), 1, "{sql}");
    assert_eq!(fixture.number("SELECT sequence FROM outbox_heads"), 1, "{sql}");
}

fn accept(columns: &str, values: &str) {
    let fixture = Fixture::new();
    fixture.sql(&format!("INSERT INTO outbox ({columns}) VALUES ({values})"));
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 1);
}

macro_rules! refusals {
    ($($name:ident: ($columns:literal) = ($values:literal) => $said:literal;)*) => {
        $(#[test]
        fn $name() {
            refuse($columns, $values, $said);
        })*
    };
}

refusals! {
    an_empty_key: ("key, type") = ("'', 't'") => "`key` must have 1 to 512 bytes";
    a_key_of_513_bytes: ("key, type") = ("printf('%513s', 'k'), 't'") => "`key` must have 1 to 512 bytes";
    a_key_whose_bytes_not_characters_exceed_512: ("key, type") = ("replace(printf('%257s', ''), ' ', 'é'), 't'") => "`key` must have 1 to 512 bytes";
    a_key_with_a_line_break: ("key, type") = ("'a' || char(10), 't'") => "`key` holds a control character";
    a_key_with_a_nul: ("key, type") = ("'a' || char(0) || 'b', 't'") => "`key` holds a control character";
    a_key_with_a_delete: ("key, type") = ("char(127), 't'") => "`key` holds a control character";
    a_key_with_a_control_character_beyond_ascii: ("key, type") = ("'a' || char(133), 't'") => "`key` holds a control character";
    a_key_with_a_noncharacter: ("key, type") = ("'a' || char(65535), 't'") => "`key` holds a control character";
    a_key_with_a_noncharacter_of_another_plane: ("key, type") = ("'a' || char(131071), 't'") => "`key` holds a control character";
    a_key_of_bytes: ("key, type") = ("x'6b', 't'") => "`key` must be TEXT";
    a_key_that_is_a_number: ("key, type") = ("42, 't'") => "`key` must be TEXT";
    a_key_that_is_not_utf_8: ("key, type") = ("CAST(x'6bff' AS TEXT), 't'") => "not UTF-8";
    a_key_cut_within_a_character: ("key, type") = ("CAST(x'6bc3' AS TEXT), 't'") => "not UTF-8";
    a_key_with_a_surrogate: ("key, type") = ("CAST(x'6beda080' AS TEXT), 't'") => "not UTF-8";

    no_type: ("key, data") = ("'k', '1'") => "`type` must be TEXT";
    an_empty_type: ("key, type") = ("'k', ''") => "`type` must be TEXT of 1 to 1024 bytes";
    a_type_of_1025_bytes: ("key, type") = ("'k', printf('%1025s', 't')") => "`type` must be TEXT of 1 to 1024 bytes";
    a_type_of_bytes: ("key, type") = ("'k', x'74'") => "`type` must be TEXT";
    a_type_that_is_a_number: ("key, type") = ("'k', 1") => "`type` must be TEXT";
    a_type_with_a_tab: ("key, type") = ("'k', 'a' || char(9)") => "`type` holds a control character";
    a_type_with_a_nul: ("key, type") = ("'known', 'a' || char(0) || 'b'") => "`type` holds a control character";
    a_type_that_is_not_utf_8: ("key, type") = ("'k', CAST(x'74ff' AS TEXT)") => "not UTF-8";

    data_that_is_an_integer: ("key, type, data") = ("'k', 't', 1") => "`data` must be TEXT";
    data_that_is_a_real: ("key, type, data") = ("'k', 't', 1.5") => "`data` must be TEXT";
    data_beyond_the_limit: ("key, type, data") = ("'k', 't', zeroblob(8388609)") => "too large";
    text_beyond_the_limit: ("key, type, data") = ("'k', 't', CAST(zeroblob(8388609) AS TEXT)") => "too large";

    a_content_type_that_is_empty: ("key, type, content_type") = ("'k', 't', ''") => "`content_type` must be TEXT";
    a_content_type_of_bytes: ("key, type, content_type") = ("'k', 't', x'61'") => "`content_type` must be TEXT";
    a_content_type_with_a_line_break: ("key, type, content_type") = ("'k', 't', 'a/b' || char(13)") => "`content_type` holds";
    an_event_id_that_is_empty: ("key, type, event_id") = ("'k', 't', ''") => "`event_id` must be TEXT";
    an_event_id_that_is_a_number: ("key, type, event_id") = ("'k', 't', 7") => "`event_id` must be TEXT";
    an_event_id_of_1025_bytes: ("key, type, event_id") = ("'k', 't', printf('%1025s', 't')") => "`event_id` must be TEXT";
    an_event_id_with_a_control_character: ("key, type, event_id") = ("'k', 't', char(31)") => "`event_id` holds";

    an_expected_version_that_is_negative: ("key, type, expected") = ("'known', 't', -1") => "`expected` must be";
    an_expected_version_that_is_text: ("key, type, expected") = ("'known', 't', '1'") => "`expected` must be";
    an_expected_version_that_is_real: ("key, type, expected") = ("'known', 't', 1.0") => "`expected` must be";
    an_expected_version_without_a_key: ("type, expected") = ("'t', 0") => "`expected` must be";
    an_expected_version_that_is_behind: ("key, type, expected") = ("'known', 't', 0") => "conflict";
    an_expected_version_that_is_ahead: ("key, type, expected") = ("'known', 't', 2") => "conflict";
    an_expected_version_of_a_key_without_entries: ("key, type, expected") = ("'new', 't', 1") => "conflict";

    a_commit_id_of_15_bytes: ("key, type, commit_id") = ("'k', 't', zeroblob(15)") => "`commit_id` must be a BLOB of 16";
    a_commit_id_of_17_bytes: ("key, type, commit_id") = ("'k', 't', zeroblob(17)") => "`commit_id` must be a BLOB of 16";
    a_commit_id_of_text: ("key, type, commit_id") = ("'k', 't', '0123456789abcdef'") => "`commit_id` must be a BLOB of 16";
    a_time_of_text: ("key, type, recorded_at") = ("'k', 't', '2026-11-21'") => "`recorded_at` must be milliseconds";
    a_time_that_is_real: ("key, type, recorded_at") = ("'k', 't', 1.5") => "`recorded_at` must be milliseconds";
    a_time_before_1970: ("key, type, recorded_at") = ("'k', 't', -1") => "`recorded_at` must be milliseconds";
    a_time_in_microseconds: ("key, type, recorded_at") = ("'k', 't', 1700000000000000") => "`recorded_at` must be milliseconds";

    attributes_that_are_not_json: ("key, type, attributes") = ("'k', 't', '{'") => "`attributes` must be TEXT that is a JSON object";
    attributes_that_are_json5: ("key, type, attributes") = ("'k', 't', '{a:1}'") => "`attributes` must be TEXT that is a JSON object";
    attributes_that_are_an_array: ("key, type, attributes") = ("'k', 't', '[]'") => "`attributes` must be TEXT that is a JSON object";
    attributes_of_bytes: ("key, type, attributes") = ("'k', 't', x'7b7d'") => "`attributes` must be TEXT that is a JSON object";
    attributes_that_are_a_number: ("key, type, attributes") = ("'k', 't', 1") => "`attributes` must be TEXT that is a JSON object";
    attributes_beyond_64_kib: ("key, type, attributes") = ("'k', 't', '{\"a\":\"' || printf('%65536s', '') || '\"}'") => "more than 65536 bytes";
    an_attribute_twice: ("key, type, attributes") = ("'k', 't', '{\"a\":1,\"a\":2}'") => "a name twice";
    an_attribute_in_capitals: ("key, type, attributes") = ("'k', 't', '{\"tenantId\":1}'") => "lower-case letters and digits";
    an_attribute_with_a_long_name: ("key, type, attributes") = ("'k', 't', '{\"abcdefghijklmnopqrstu\":1}'") => "1 to 20";
    an_attribute_without_a_name: ("key, type, attributes") = ("'k', 't', '{\"\":1}'") => "1 to 20";
    an_attribute_that_outbox_sets: ("key, type, attributes") = ("'k', 't', '{\"partitionkey\":\"a\"}'") => "Outbox or CloudEvents itself sets";
    an_attribute_that_has_a_column: ("key, type, attributes") = ("'k', 't', '{\"id\":\"a\"}'") => "Outbox or CloudEvents itself sets";
    an_attribute_that_is_null: ("key, type, attributes") = ("'k', 't', '{\"a\":null}'") => "a value that is not allowed";
    an_attribute_that_is_an_object: ("key, type, attributes") = ("'k', 't', '{\"a\":{}}'") => "a value that is not allowed";
    an_attribute_that_is_a_fraction: ("key, type, attributes") = ("'k', 't', '{\"a\":1.5}'") => "a value that is not allowed";
    an_attribute_beyond_32_bits: ("key, type, attributes") = ("'k', 't', '{\"a\":2147483648}'") => "a value that is not allowed";
    an_attribute_that_is_empty: ("key, type, attributes") = ("'k', 't', '{\"a\":\"\"}'") => "a text that is empty";
    an_attribute_that_is_too_long: ("key, type, attributes") = ("'k', 't', json_object('a', printf('%1025s', 'a'))") => "longer than 1024 bytes";
    an_attribute_with_a_control_character: ("key, type, attributes") = ("'k', 't', '{\"a\":\"\\u0007\"}'") => "a control character";
    an_attribute_with_a_nul: ("key, type, attributes") = ("'k', 't', '{\"a\":\"b\\u0000\"}'") => "a control character";
    an_attribute_with_half_a_surrogate_pair: ("key, type, attributes") = ("'k', 't', '{\"a\":\"b\\ud800\"}'") => "a control character";
    a_subject_that_is_a_number: ("key, type, attributes") = ("'k', 't', '{\"subject\":1}'") => "a value that is not allowed";
    a_time_attribute_without_zone: ("key, type, attributes") = ("'k', 't', '{\"time\":\"2026-11-21T09:30:00\"}'") => "RFC 3339";
    a_time_attribute_that_is_a_julian_day: ("key, type, attributes") = ("'k', 't', '{\"time\":\"2460000.5\"}'") => "RFC 3339";
    a_time_attribute_on_a_day_that_is_none: ("key, type, attributes") = ("'k', 't', '{\"time\":\"2026-13-21T09:30:00Z\"}'") => "RFC 3339";
    a_schema_with_spaces: ("key, type, attributes") = ("'k', 't', '{\"dataschema\":\"a b\"}'") => "URI reference";

    more_that_is_not_json: ("key, type, more") = ("'k', 't', '['") => "`more` must be TEXT that is a JSON array";
    more_that_is_an_object: ("key, type, more") = ("'k', 't', '{\"type\":\"t\"}'") => "`more` must be TEXT that is a JSON array";
    more_that_is_empty: ("key, type, more") = ("'k', 't', '[]'") => "1 to 999 events";
    more_of_bytes: ("key, type, more") = ("'k', 't', x'5b5d'") => "`more` must be TEXT that is a JSON array";
    more_than_999_further_events: ("key, type, more") = ("'k', 't', '[' || rtrim(replace(printf('%1000s', ''), ' ', '{\"type\":\"t\"},'), ',') || ']'") => "1 to 999 events";
    more_without_a_key: ("type, more") = ("'t', '[{\"type\":\"t\"}]'") => "`more` needs a `key`";
    a_further_event_that_is_no_object: ("key, type, more") = ("'k', 't', '[\"t\"]'") => "must be a JSON object";
    a_further_event_without_a_type: ("key, type, more") = ("'k', 't', '[{\"data\":1}]'") => "must have a `type`";
    a_further_event_with_an_unknown_member: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"key\":\"k\"}]'") => "may have `id`";
    a_further_event_with_a_member_twice: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"type\":\"u\"}]'") => "each once";
    a_further_event_with_an_empty_type: ("key, type, more") = ("'k', 't', '[{\"type\":\"\"}]'") => "1 to 1024 bytes";
    a_further_event_with_an_id_that_is_a_number: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"id\":1}]'") => "must be text";
    a_further_event_with_a_control_character: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\\n\"}]'") => "control characters";
    a_further_event_with_a_nul: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\\u0000\"}]'") => "control characters";
    a_further_event_with_an_attribute_with_a_nul: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"attributes\":{\"a\":\"b\\u0000c\"}}]'") => "control character";
    a_further_event_with_both_kinds_of_data: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"data\":1,\"data_base64\":\"YQ==\"}]'") => "stand without `data`";
    a_further_event_with_base64_that_is_none: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"data_base64\":\"a-_=\"}]'") => "`data_base64`";
    a_further_event_with_base64_without_padding: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"data_base64\":\"YQ\"}]'") => "`data_base64`";
    a_further_event_with_bad_attributes: ("key, type, more") = ("'k', 't', '[{\"type\":\"u\"},{\"type\":\"t\",\"attributes\":{\"A\":1}}]'") => "`attributes`";
    a_further_event_with_attributes_of_text: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"attributes\":\"a\"}]'") => "`attributes`";
    a_further_event_with_null_attributes: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"attributes\":null}]'") => "`attributes`";
    a_further_event_beyond_the_limit: ("key, type, more") = ("'k', 't', '[{\"type\":\"t\",\"data\":\"' || printf('%8388609s', '') || '\"}]'") => "too large";
    an_entry_beyond_16_mib: ("key, type, data, more") = ("'k', 't', '1', '[{\"type\":\"t\",\"data\":\"' || printf('%16777216s', '') || '\"}]'") => "16777216 bytes";
}

#[test]
fn a_key_of_a_known_head_is_refused_as_bytes_as_well() {
    refuse("key, type", "CAST('known' AS BLOB), 't'", "`key` must be TEXT");
}

#[test]
fn the_longest_key_and_type_are_taken() {
    accept("key, type", "replace(printf('%256s', ''), ' ', 'é'), printf('%1024s', 't')");
}

#[test]
fn text_beyond_ascii_is_taken_and_so_is_the_replacement_character_itself() {
    accept(
        "key, type, event_id, attributes",
        "'Kunde/Ä' || char(65533) || '🛒', 'bestellt·✓', 'é', '{\"a\":\"é\u{fffd}\"}'",
    );
}

#[test]
fn every_attribute_that_an_event_may_have_is_taken() {
    accept(
        "key, type, attributes, more",
        r#"'k', 't',
        '{"subject":"s","time":"2026-11-21T09:30:00.123456789+01:00","dataschema":"/s","tenant":"a","n":-2147483648,"b":true}',
        '[{"type":"u"},{"type":"v","id":null,"content_type":null,"data":null,"attributes":{"time":"2026-11-21T09:30:00Z"}},
          {"type":"w","id":"i","content_type":"a/b","data_base64":"YQ=="},{"type":"x","data_base64":""}]'"#,
    );
}

#[test]
fn a_nul_that_is_only_spelled_out_is_text_and_one_in_a_payload_is_data() {
    accept("key, type, attributes, more", r#"'k', 't', '{"a":"b\\u0000"}', '[{"type":"t\\u0000","data":"\u0000"}]'"#);
}

#[test]
fn a_route_that_takes_less_lowers_the_limit() {
    let fixture = Fixture::new();
    fixture.sql("UPDATE outbox_meta SET max_event_bytes = 10");
    fixture.sql("INSERT INTO outbox (key, type, data) VALUES ('k', 't', '0123456789')");
    for (columns, values) in [("data", "'01234567890'"), ("data", "x'0102030405060708090a0b'"), ("data", "'éééééé'")]
    {
        let sql = format!("INSERT INTO outbox (key, type, {columns}) VALUES ('k', 't', {values})");
        let error = fixture.connection.execute(&sql, []).unwrap_err().to_string();
        assert!(error.starts_with("outbox: too large"), "{error}");
    }
    let error = fixture.connection.execute(
        r#"INSERT INTO outbox (key, type, more) VALUES ('k', 't', '[{"type":"t","data_base64":"AAAAAAAAAAAAAAAAAAAA"}]')"#,
        [],
    );
    assert!(error.unwrap_err().to_string().starts_with("outbox: too large"));
}

#[test]
fn bound_values_are_judged_like_literals() {
    let nul = Value::Text("a\0b".to_owned());
    refuse_bound("key, type", "?1, 't'", [nul.clone()], "`key` holds a control character");
    refuse_bound("key, type", "'k', ?1", [nul], "`type` holds a control character");
    refuse_bound("key, type, data", "'k', 't', ?1", [Value::Integer(1)], "`data` must be TEXT");
}

#[test]
fn an_insert_of_many_rows_is_refused_as_a_whole() {
    let fixture = Fixture::new();
    let sql = "INSERT INTO outbox (key, type) VALUES ('a', 't'), ('b', 't'), ('', 't')";
    fixture.connection.execute(sql, []).unwrap_err();
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 0);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_heads"), 0);
}

#[test]
fn another_conflict_clause_loosens_nothing() {
    for clause in ["IGNORE", "REPLACE", "FAIL", "ROLLBACK", "ABORT"] {
        let fixture = Fixture::new();
        let insert = |values: &str| {
            let sql = format!("INSERT OR {clause} INTO outbox (key, type, expected) VALUES ({values})");
            fixture.connection.execute(&sql, [])
        };
        insert("'k', 't', NULL").unwrap();
        insert("'k', 't', 1").unwrap();
        insert("'k', 't', 1").unwrap_err();
        insert("'', 't', NULL").unwrap_err();
        assert_eq!(fixture.number("SELECT sequence FROM outbox_heads"), 2, "{clause}");
        assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 2, "{clause}");
    }
}

#[test]
fn the_view_can_be_neither_updated_nor_deleted_from() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO outbox (key, type) VALUES ('k', 't')");
    let refused = |connection: &Connection, sql: &str| connection.execute(sql, []).unwrap_err().to_string();
    assert!(refused(&fixture.connection, "DELETE FROM outbox").contains("view"));
    assert!(refused(&fixture.connection, "UPDATE outbox SET type = 'u'").contains("view"));
}
