use proptest::prelude::*;

use super::*;

fn begin(commit: u64, xid: u32) -> Vec<u8> {
    [&b"B"[..], &commit.to_be_bytes(), &[0; 8], &xid.to_be_bytes()].concat()
}

fn commit(end: u64) -> Vec<u8> {
    [&b"C\0"[..], &[0; 8], &end.to_be_bytes(), &[0; 8]].concat()
}

fn insert(relation: u32, values: &[&[u8]], columns: u16) -> Vec<u8> {
    [&b"I"[..], &relation.to_be_bytes(), b"N", &columns.to_be_bytes(), &values.concat()].concat()
}

fn relation_message() -> Vec<u8> {
    [&b"R"[..], &7_u32.to_be_bytes(), b"outbox\0entries\0d", &2_u16.to_be_bytes()]
        .into_iter()
        .chain([&b"\x01id\0"[..], &20_u32.to_be_bytes(), &(-1_i32).to_be_bytes()])
        .chain([&b"\0key\0"[..], &25_u32.to_be_bytes(), &(-1_i32).to_be_bytes()])
        .collect::<Vec<_>>()
        .concat()
}

#[test]
fn a_transaction_is_read_message_by_message() {
    assert_eq!(read(begin(0x10, 5).into()), Ok(Change::Begin { commit: Lsn(0x10), time: 0, xid: 5 }));
    assert_eq!(read(commit(0x20).into()), Ok(Change::Commit { end: Lsn(0x20) }));
    let columns = vec![Column { name: "id".into(), kind: 20 }, Column { name: "key".into(), kind: 25 }];
    let relation = Relation { id: 7, schema: "outbox".into(), name: "entries".into(), columns };
    assert_eq!(read(relation_message().into()), Ok(Change::Relation(relation)));
    let message = insert(7, &[b"b\0\0\0\x02hi", b"n", b"t\0\0\0\x01x", b"u"], 4);
    let Ok(Change::Insert { relation: 7, row }) = read(message.into()) else { panic!("this is a new row") };
    let expected = [Value::Binary(b"hi"), Value::Null, Value::Text(b"x"), Value::Unchanged];
    assert_eq!(row.values().collect::<Vec<_>>(), expected);
    assert_eq!(row.len(), 4);
}

#[test]
fn what_tells_of_no_new_row_is_passed_over_and_the_unknown_is_refused() {
    for kind in b"UDTYOM" {
        assert_eq!(read(Bytes::from(vec![*kind, 1, 2, 3])), Ok(Change::Other));
    }
    // Parts of a transaction under way, and of a prepared one, are of later versions of the protocol.
    for kind in b"SEcAbPKrp" {
        assert_eq!(read(Bytes::from(vec![*kind, 1, 2, 3])), Err(Malformed("is of a kind that was not asked for")));
    }
}

#[test]
fn every_message_that_is_cut_or_goes_on_is_refused() {
    for whole in [begin(1, 2), commit(3), relation_message(), insert(7, &[b"b\0\0\0\x02hi", b"n"], 2)] {
        for end in 0..whole.len() {
            assert!(read(Bytes::copy_from_slice(&whole[..end])).is_err(), "{whole:?} cut at {end}");
        }
        let longer = [&whole[..], b"\0"].concat();
        assert_eq!(read(longer.into()), Err(LONG));
    }
}

#[test]
fn a_length_beyond_the_message_is_refused() {
    let message = insert(7, &[b"b\xff\xff\xff\xffhi"], 1);
    assert_eq!(read(message.into()), Err(SHORT));
}

/// The bytes that a message made us hold beyond its own.
fn held(change: &Change) -> usize {
    match change {
        Change::Relation(relation) => {
            let names: usize = relation.columns.iter().map(|column| column.name.len()).sum();
            relation.schema.len() + relation.name.len() + names
        }
        // What is given of a row shares the message's memory.
        Change::Insert { .. } | Change::Begin { .. } | Change::Commit { .. } | Change::Other => 0,
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_take_more_than_the_message(
        kind in proptest::sample::select(&b"BCRIUDTYOMSEcA\0"[..]),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let message = [&[kind][..], &rest].concat();
        let length = message.len();
        if let Ok(change) = read(message.into()) {
            prop_assert!(held(&change) <= length);
            match change {
                Change::Insert { row, .. } => {
                    prop_assert_eq!(row.values().count(), row.len());
                    prop_assert!(row.len() <= length);
                }
                Change::Relation(relation) => prop_assert!(relation.columns.len() <= length),
                Change::Begin { .. } | Change::Commit { .. } | Change::Other => {}
            }
        }
    }

    #[test]
    fn a_row_reads_as_it_was_sent(values in proptest::collection::vec(proptest::option::of(".*"), 0..20)) {
        let sent: Vec<Vec<u8>> = values.iter().map(|value| match value {
            None => b"n".to_vec(),
            Some(text) => [&b"b"[..], &u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat(),
        }).collect();
        let sent: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
        let message = insert(1, &sent, u16::try_from(values.len()).unwrap());
        let Ok(Change::Insert { row, .. }) = read(message.into()) else { panic!("this is a new row") };
        let expected: Vec<Value> = values.iter().map(|value| value.as_ref().map_or(Value::Null, |text| Value::Binary(text.as_bytes()))).collect();
        prop_assert_eq!(row.values().collect::<Vec<_>>(), expected);
    }
}
