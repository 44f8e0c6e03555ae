//! Sinks that lose something of an event, or of what surrounds it.

use outbox::{
    Event,
    cloudevents::{Envelope, json},
    testing::conformance::sink::whole::{every_attribute_arrives, what_a_route_adds_arrives},
};

use super::{Defective, SinkDefect, run_sink_suite};

/// The event with another value of an attribute, or without it.
pub(super) fn spoilt(event: &Event, name: &str) -> Event {
    let mut json: serde_json::Value = serde_json::from_slice(&json::encode(event, Envelope::default())).unwrap();
    let attributes = json.as_object_mut().unwrap();
    attributes.remove("sequence");
    if attributes.remove(name).is_some() {
        let other = match name {
            "type" | "source" | "partitionkey" => Some("other"),
            "place" => Some("9.9.9/10"),
            "after" => Some("0.0.0"),
            _ => None,
        };
        attributes.extend(other.map(|other| (name.to_owned(), other.into())));
    }
    json::decode(json.to_string().as_bytes()).unwrap()
}

#[tokio::test]
#[should_panic(
    expected = "what a route adds arrives: attribute `gapless` of `key/1@1.1.0` was published as Some(\"true\") and arrived as None"
)]
async fn a_sink_that_sends_an_empty_envelope_is_found() {
    what_a_route_adds_arrives(&Defective::new(SinkDefect::LosesWhatTheRouteAdds)).await;
}

#[tokio::test]
#[should_panic(expected = "what a route adds arrives: attribute `replayid` of `key/3@1.1.0`")]
async fn a_sink_that_loses_the_replay_is_found() {
    run_sink_suite(SinkDefect::LosesTheReplay).await;
}

#[tokio::test]
#[should_panic(expected = "attribute `gapless` of `key/2@1.1.0` was published as None and arrived as Some(\"true\")")]
async fn a_sink_that_promises_what_its_route_does_not_is_found() {
    what_a_route_adds_arrives(&Defective::new(SinkDefect::PromisesWhatTheRouteDoesNot)).await;
}

macro_rules! spoilt_attributes {
    ($($test:ident: $name:literal, $told:literal;)*) => {
        $(
            #[tokio::test]
            #[should_panic(expected = $told)]
            async fn $test() {
                every_attribute_arrives(&Defective::new(SinkDefect::Spoils($name))).await;
            }
        )*
    };
}

spoilt_attributes! {
    a_sink_that_loses_the_type_is_found: "type", "every attribute arrives: attribute `type` of `first`";
    a_sink_that_loses_the_producer_is_found: "source", "every attribute arrives: attribute `source` of `first`";
    a_sink_that_loses_the_key_is_found: "partitionkey", "every attribute arrives: attribute `partitionkey` of `first`";
    a_sink_that_loses_the_place_is_found: "place", "every attribute arrives: attribute `place` of `first`";
    a_sink_that_loses_what_an_event_follows_is_found: "after", "every attribute arrives: attribute `after` of `full/1`";
    a_sink_that_loses_the_time_is_found: "time", "every attribute arrives: attribute `time` of `first`";
    a_sink_that_loses_the_subject_is_found: "subject", "every attribute arrives: attribute `subject` of `full/1`";
    a_sink_that_loses_the_schema_is_found: "dataschema", "every attribute arrives: attribute `dataschema` of `full/1`";
    a_sink_that_loses_the_cause_is_found: "causationid", "every attribute arrives: attribute `causationid` of `full/1`";
    a_sink_that_loses_what_a_service_added_is_found: "some", "every attribute arrives: attribute `some` of `full/1`";
}
