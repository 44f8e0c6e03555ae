use proptest::prelude::*;

use super::*;

fn snapshots() -> impl Strategy<Value = Snapshot> {
    (1_u64..40, prop::collection::vec(1_u64..40, 0..6)).prop_map(|(xmax, running)| Snapshot::new(xmax, running))
}

fn rows() -> impl Strategy<Value = Row> {
    (1_i64..40, 1_u64..40).prop_map(|(id, xid)| Row { id, xid })
}

fn standings() -> impl Strategy<Value = Standing> {
    let ways = (0..4_usize, prop::option::of(rows()), 0_u64..9);
    let log = (0_u32..9, any::<u64>()).prop_map(|(timeline, lsn)| LogPlace { timeline, lsn });
    (snapshots(), snapshots(), snapshots(), ways, log).prop_map(|(passed, to, then, (way, last, rows), log)| {
        // Each sees what the one before saw, as snapshots of one history do.
        let to = to.seen_by_both(&then);
        let passed = passed.seen_by_both(&to);
        let reading = match way {
            0 => Reading::Rest,
            1 => Reading::Range { to, last, then: None },
            2 => Reading::Range { to, last, then: Some(then) },
            _ => Reading::Log { inside: last.map(|last| (last, rows)) },
        };
        Standing { passed, reading, log }
    })
}

/// All rows that there can be.
fn all() -> impl Iterator<Item = Row> {
    (1..45).flat_map(|id| (1..45).map(move |xid| Row { id, xid }))
}

fn at(text: &str) -> Standing {
    Standing::parse(&Position::new(text)).unwrap()
}

#[test]
fn positions_look_as_documented() {
    let log = LogPlace { timeline: 1, lsn: 0x16B_3748 };
    let passed = Snapshot::new(1201, [1200, 1197]);
    let range = Reading::Range { to: Snapshot::new(1240, []), last: Some(Row { id: 42, xid: 1234 }), then: None };
    let standing = Standing { passed: passed.clone(), reading: range, log };
    assert_eq!(standing.position().as_str(), "42.1234@1201-1.3>1240/1/16B3748");
    assert_eq!(standing.in_range().behind(Row { id: 43, xid: 1 }).as_str(), "43.1@1201-1.3>1240/1/16B3748");
    assert_eq!(Standing::at_rest(passed.clone(), log).position().as_str(), "@1201-1.3/1/16B3748");
    let reading = Reading::Log { inside: Some((Row { id: 42, xid: 1234 }, 3)) };
    assert_eq!(Standing { passed, reading, log }.position().as_str(), "42.1234@1201-1.3~3/1/16B3748");
    assert_eq!(Standing::BEGINNING.position().as_str(), "@0/0/0");
    assert_eq!(at("@0/0/0").leading_to(&at("7.8@9>12/1/A")).position().as_str(), "@0>9+12/1/A");
}

#[test]
fn what_is_no_position_is_refused() {
    for text in [
        "",
        "42",
        "42.7",
        "@",
        "@1",
        "@1/1",
        "@1/1/x",
        "@1/1/a",
        "@1/1/1/1",
        "42@1>2/1/1",
        "4.7@1/1/1",
        "4.7@1>/1/1",
        "4.7@1>2+/1/1",
        "4.7@1>2>3/1/1",
        "4.7@1~/1/1",
        "4.x@1>2/1/1",
        "+4.7@1>2/1/1",
        "4.7@1>2/-1/1",
        "no position, surely",
    ] {
        let refused = Standing::parse(&Position::new(text)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{text}");
    }
}

#[test]
fn a_chain_of_ranges_rises() {
    let chain = [
        "@0/0/0",
        "1.5@0>9-2.1/1/A",
        "7.4@0>9-2.1/1/A",
        "@9-2.1/1/A",
        "3.7@9-2.1>9-3/1/B",
        "@9-3/1/B",
        "@9-3>12/1/C",
        "9.10@9-3>12/1/C",
        "@12/1/C",
        "12.12@12~1/1/D",
        "11.12@12~2/1/D",
        "@13~0/1/D",
        "14.14@13>15/1/E",
        "@15/1/E",
    ];
    for (index, left) in chain.iter().enumerate() {
        for (other, right) in chain.iter().enumerate() {
            let found = order(&Position::new(left), &Position::new(right));
            assert_eq!(found, index.cmp(&other), "{left} and {right}");
        }
    }
}

#[test]
fn a_rows_name_comes_before_what_is_past_it() {
    let position = Position::new("7.4@3>9-2/1/A");
    let name = |text: &str| order(&Position::new(text), &position);
    assert_eq!(name("7.4"), Ordering::Less);
    assert_eq!(name("900.2"), Ordering::Less, "an earlier range");
    assert_eq!(name("6.7"), Ordering::Greater, "it was running");
    assert_eq!(name("8.4"), Ordering::Greater);
    assert_eq!(order(&position, &Position::new("8.4")), Ordering::Less);
}

proptest! {
    #[test]
    fn every_position_is_read_back(standing in standings()) {
        prop_assert_eq!(Standing::parse(&standing.position()).unwrap(), standing.clone());
        prop_assert_eq!(row_of(&standing.position()), standing.last());
    }

    #[test]
    fn any_text_is_refused_or_read(text in "[0-9.@>~+:*/A-F-]{0,24}") {
        if let Ok(standing) = Standing::parse(&Position::new(&text)) {
            prop_assert_eq!(Standing::parse(&standing.position()).unwrap(), standing);
        }
    }

    #[test]
    fn what_both_have_passed_each_has_passed(one in standings(), other in standings()) {
        let both = one.passed_by_both(&other);
        for row in all() {
            prop_assert!(!both.is_past(row) || (one.is_past(row) && other.is_past(row)), "{:?} of {:?}", row, both);
        }
        prop_assert_eq!(one.passed_by_both(&one), one);
    }

    #[test]
    fn of_one_range_the_earlier_is_what_both_have_passed(
        passed in snapshots(), to in snapshots(), one in rows(), other in rows()
    ) {
        let behind = |last| Standing {
            passed: passed.clone(),
            reading: Reading::Range { to: to.clone(), last: Some(last), then: None },
            log: LogPlace::default(),
        };
        let both = behind(one).passed_by_both(&behind(other));
        for row in all() {
            prop_assert_eq!(both.is_past(row), behind(one).is_past(row) && behind(other).is_past(row));
        }
    }

    #[test]
    fn after_a_loss_nothing_counts_that_may_be_another_now(standing in standings(), agreed in rows()) {
        let after = standing.after_loss(agreed);
        for row in all() {
            prop_assert!(!after.is_past(row) || (standing.is_past(row) && row.xid <= agreed.xid), "{:?}", row);
        }
    }

    #[test]
    fn a_bounded_reading_comes_to_its_end_exactly(
        end in standings(), since in prop::option::of(rows())
    ) {
        // From the beginning, or from an id on.
        let last = since.map(|row| Row { xid: 0, ..row });
        let now = Snapshot::new(90, []);
        let reading = last.map_or(Reading::Rest, |_| Reading::Range { to: now, last, then: None });
        let from = Standing { reading, ..Standing::BEGINNING };
        let mut read: Vec<Row> = Vec::new();
        let mut at = from.leading_to(&end);
        while let Reading::Range { to, last, then } = at.reading.clone() {
            let next = last.map_or(i64::MIN, |last| last.id + 1);
            let unread: Vec<_> = all().filter(|row| row.id >= next && to.sees(row.xid) && !at.passed.sees(row.xid)).collect();
            let behind = at.in_range();
            // So a relay cuts off what is beyond.
            read.extend(unread.into_iter().filter(|row| order(&behind.behind(*row), &end.position()).is_le()));
            at = match then {
                Some(then) => {
                    Standing { passed: to, reading: Reading::Range { to: then, last: None, then: None }, log: at.log }
                }
                None => Standing::at_rest(to, at.log),
            };
        }
        prop_assert!(order(&at.position(), &end.position()).is_ge(), "it comes to an end: {:?}", at);
        let in_one_tx = matches!(&end.reading, Reading::Log { inside: Some(_) });
        for row in all().filter(|_| !in_one_tx) {
            let wanted = end.is_past(row) && since.is_none_or(|since| row.id > since.id || !end.passed.sees(row.xid));
            prop_assert_eq!(read.contains(&row), wanted, "{:?}", row);
        }
    }
}
