//! What `outbox.write` refuses, with a SQLSTATE and what to do.

use crate::fixture::Fixture;

/// A value, and what the refusal begins with.
type Case = (&'static str, &'static str);

async fn all_refused(fixture: &Fixture, cases: &[Case], call: impl Fn(&str) -> String) {
    for (value, begins) in cases {
        for start in ["", "SELECT outbox.write('known', 't');"] {
            let refusal = fixture.refusal(&format!("{start} {}", call(value))).await;
            assert!(refusal.starts_with(begins), "{value}: {refusal}");
        }
    }
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries").await, 0, "a refusal leaves nothing");
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.heads").await, 0, "a refusal moves no head");
}

#[tokio::test]
async fn a_text_that_no_attribute_may_hold_is_refused_by_name() {
    let fixture = Fixture::new().await;
    let cases = [
        ("key => '', type => 't'", "22023 outbox: `key` must have 1 to 512 bytes"),
        ("key => repeat('x', 513), type => 't'", "22023 outbox: `key` must have 1 to 512 bytes"),
        ("key => repeat('ü', 257), type => 't'", "22023 outbox: `key` must have 1 to 512 bytes"),
        (r"key => E'a\tb', type => 't'", "22023 outbox: `key` holds a control character"),
        ("key => 'k', type => NULL", "22023 outbox: `type` is missing"),
        ("key => 'k', type => ''", "22023 outbox: `type` must have 1 to 1024 bytes"),
        ("key => 'known', type => repeat('x', 1025)", "22023 outbox: `type` must have 1 to 1024 bytes"),
        (r"key => 'known', type => E'\x7f'", "22023 outbox: `type` holds a control character"),
        (r"key => 'known', type => E'\u0085'", "22023 outbox: `type` holds a control character"),
        (r"key => 'known', type => E'\ufdd0'", "22023 outbox: `type` holds a control character"),
        (r"key => 'known', type => E'a\uffff'", "22023 outbox: `type` holds a control character"),
        (r"key => 'known', type => E'a\U0010FFFE'", "22023 outbox: `type` holds a control character"),
        ("key => 'k', type => 't', event_id => ''", "22023 outbox: `event_id` must have 1 to 1024 bytes"),
        (r"key => 'known', type => 't', event_id => E'\n'", "22023 outbox: `event_id` holds a control character"),
        ("key => 'k', type => 't', content_type => ''", "22023 outbox: `content_type` must have 1 to 1024 bytes"),
        (
            r"key => 'k', type => 't', data => '\x00'::bytea, content_type => E'\n'",
            "22023 outbox: `content_type` holds",
        ),
        (r"key => 'k', type => '', data => '\x00'::bytea", "22023 outbox: `type` must have"),
    ];
    all_refused(&fixture, &cases, |parameters| format!("SELECT outbox.write({parameters})")).await;
}

#[tokio::test]
async fn texts_up_to_the_limits_are_taken() {
    let fixture = Fixture::new().await;
    let call = r"outbox.write(repeat('ü', 256), repeat('x', 1024), '', repeat('é', 512), repeat('x', 1024),
        jsonb_build_object('a2345678901234567890', repeat('x', 1024), 'n', -2147483648, 'm', 2147483647))";
    assert_eq!(fixture.number(&format!("SELECT {call}")).await, 1);
    assert_eq!(fixture.number(&format!("SELECT {call}")).await, 2);
    assert_eq!(fixture.number(r"SELECT outbox.write(E'\U0001F600\uFDCF\u00A0~', E'\uFDF0\uFFFD')").await, 1);
}

#[tokio::test]
async fn attributes_that_no_event_may_have_are_refused_by_name() {
    let fixture = Fixture::new().await;
    let cases = [
        ("[1]", "22023 outbox: `attributes` must be a JSON object"),
        (r#"{"Tenant": "x"}"#, "22023 outbox: `Tenant` in `attributes` cannot be a name"),
        (r#"{"": "x"}"#, "22023 outbox: `` in `attributes` cannot be a name"),
        (r#"{"a23456789012345678901": "x"}"#, "22023 outbox: `a23456789012345678901` in `attributes` cannot be a name"),
        (r#"{"id": "x"}"#, "22023 outbox: `id` in `attributes` is set by Outbox"),
        (r#"{"place": "x"}"#, "22023 outbox: `place` in `attributes` is set by Outbox"),
        (r#"{"subject": 7}"#, "22023 outbox: `subject` in `attributes` must be text"),
        (r#"{"a": null}"#, "22023 outbox: `a` in `attributes` must be text, true, false"),
        (r#"{"a": [1]}"#, "22023 outbox: `a` in `attributes` must be text, true, false"),
        (r#"{"a": 1.5}"#, "22023 outbox: `a` in `attributes` must be text, true, false"),
        (r#"{"a": 2147483648}"#, "22023 outbox: `a` in `attributes` must be text, true, false"),
        (r#"{"a": ""}"#, "22023 outbox: `a` must have 1 to 1024 bytes"),
        (r#"{"a": "\n"}"#, "22023 outbox: `a` holds a control character"),
        (r#"{"time": "yesterday"}"#, "22023 outbox: `time` in `attributes` must be RFC 3339"),
        (r#"{"time": "2026-11-21T09:30:00"}"#, "22023 outbox: `time` in `attributes` must be RFC 3339"),
        (r#"{"time": "2026-02-30T09:30:00Z"}"#, "22023 outbox: `time` in `attributes` must be RFC 3339"),
        (r#"{"dataschema": "a b"}"#, "22023 outbox: `dataschema` in `attributes` must be a URI reference"),
    ];
    all_refused(&fixture, &cases, |json| format!("SELECT outbox.write('known', 't', attributes => '{json}')")).await;
    let many = "SELECT outbox.write('k', 't', attributes => (SELECT jsonb_object_agg('a' || n, repeat('x', 1000)) \
        FROM generate_series(1, 66) AS n))";
    assert!(fixture.refusal(many).await.starts_with("22023 outbox: `attributes` has more than 65536 bytes"));
}

#[tokio::test]
async fn another_version_than_expected_is_a_conflict() {
    let fixture = Fixture::new().await;
    let write = |key: &str, expected: &str| format!("SELECT outbox.write('{key}', 't', expected => {expected})");
    assert_eq!(fixture.refusal(&write("k", "1")).await, "OX001 outbox: conflict: the key is at sequence 0, not 1");
    fixture.sql(&write("k", "0")).await;
    fixture.sql(&write("k", "1")).await;
    for stale in ["0", "1", "3", "9223372036854775807"] {
        let refusal = fixture.refusal(&write("k", stale)).await;
        assert_eq!(refusal, format!("OX001 outbox: conflict: the key is at sequence 2, not {stale}"));
    }
    assert!(fixture.refusal(&write("k", "-1")).await.starts_with("22023 outbox: `expected` must be"));
    let keyless = fixture.refusal("SELECT outbox.write(NULL, 't', expected => 0)").await;
    assert!(keyless.starts_with("22023 outbox: `expected` must be"), "{keyless}");
    assert_eq!(fixture.number("SELECT max(sequence) FROM outbox.entries").await, 2);
}

#[tokio::test]
async fn an_event_larger_than_the_routes_take_is_refused() {
    let fixture = Fixture::new().await;
    fixture.sql("UPDATE outbox.meta SET max_event_bytes = 100").await;
    for key in ["'k'", "'k'", "NULL"] {
        fixture.sql(&format!("SELECT outbox.write({key}, 't', repeat('x', 100))")).await;
        for data in
            ["repeat('x', 101)", "decode(repeat('00', 101), 'hex')", "to_jsonb(repeat('x', 99))", "repeat('ü', 51)"]
        {
            let refusal = fixture.refusal(&format!("SELECT outbox.write({key}, 't', {data})")).await;
            assert!(refusal.starts_with("OX002 outbox: too large: `data`"), "{refusal}");
        }
        let attributes = format!("SELECT outbox.write({key}, 't', repeat('x', 71), attributes => '{{\"a\": \"b\"}}')");
        assert!(fixture.refusal(&attributes).await.contains("have 101 bytes"), "its attributes count three times");
    }
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries").await, 3);
}

#[tokio::test]
async fn a_database_without_identity_says_what_to_run() {
    let fixture = Fixture::new().await;
    fixture.sql("SELECT outbox.write('known', 't'); DELETE FROM outbox.meta").await;
    for call in ["write('k', 't')", "write('known', 't')", "write(NULL, 't')", "write_all('[{\"type\":\"t\"}]')"] {
        let refusal = fixture.refusal(&format!("SELECT outbox.{call}")).await;
        assert_eq!(refusal, "OX003 outbox: this database has no identity yet", "{call}");
    }
}
