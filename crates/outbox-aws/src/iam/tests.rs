use super::*;

fn place() -> Place {
    Place { region: "eu-west-1".to_owned(), account: "111122223333".to_owned() }
}

#[test]
fn actions_are_sorted_and_each_pair_stands_once() {
    for right in RIGHTS {
        assert!(right.actions.is_sorted() && !right.actions.is_empty(), "{right:?}");
        let same = RIGHTS.iter().filter(|other| (other.role, other.thing) == (right.role, right.thing)).count();
        assert_eq!(same, 1, "{right:?}");
    }
}

#[test]
fn a_policy_is_the_same_whatever_the_order_of_its_things() {
    let arns =
        [(Thing::Bus, place().bus("b")), (Thing::Objects, place().objects("c", "p/")), (Thing::Bus, place().bus("a"))];
    let mut reversed = arns.clone();
    reversed.reverse();
    assert_eq!(Policy::of(Role::Relay, arns), Policy::of(Role::Relay, reversed));
}

#[test]
fn what_a_role_has_nothing_to_do_with_is_left_out() {
    assert_eq!(Policy::of(Role::Writer, [(Thing::Bus, place().bus("a"))]), None);
}

#[test]
fn a_keeper_may_do_to_its_sinks_what_a_relay_may() {
    for thing in [Thing::Bus, Thing::Bucket, Thing::Objects, Thing::Key] {
        let actions = |role| {
            let right = RIGHTS.iter().find(|right| (right.role, right.thing) == (role, thing));
            right.map(|right| right.actions).unwrap_or_default()
        };
        assert_eq!(actions(Role::Keeper), actions(Role::Relay), "{thing:?}");
    }
}

const TEMPLATE: &str = include_str!("../../../../deploy/carts/template.yaml");

/// The lines of a resource in the template.
fn resource(name: &str) -> impl Iterator<Item = &'static str> {
    let (_, after) = TEMPLATE.split_once(&format!("\n  {name}:\n")).unwrap();
    after.lines().take_while(|line| line.starts_with("    ")).map(str::trim)
}

/// What a role of the template may do, and to what, by the names of its statements.
fn in_template(role: &str) -> BTreeMap<&'static str, (Vec<&'static str>, &'static str)> {
    let (mut statements, mut sid, mut lists) = (BTreeMap::<_, (Vec<_>, _)>::new(), "", false);
    for line in resource(role) {
        let item = line.strip_prefix("- ").filter(|_| lists);
        lists = line == "Action:" || item.is_some();
        if let Some(named) = line.strip_prefix("- Sid: ") {
            (sid, lists) = (named, false);
        } else if let Some(actions) = line.strip_prefix("Action: ").or(item) {
            statements.entry(sid).or_default().0.extend(actions.trim_matches(['[', ']']).split(", "));
        } else if let Some(on) = line.strip_prefix("Resource: ") {
            statements.entry(sid).or_default().1 = on;
        }
    }
    statements
}

/// What the template calls it; none for what its functions do not use.
fn called_in_template(thing: Thing) -> Option<&'static str> {
    match thing {
        Thing::Entries => Some("!GetAtt EntriesTable.Arn"),
        Thing::Stream => Some("!Sub \"${EntriesTable.Arn}/stream/*\""),
        Thing::Heads => Some("!GetAtt HeadsTable.Arn"),
        Thing::Bookkeeping => Some("!GetAtt BookkeepingTable.Arn"),
        Thing::Bus => Some("!GetAtt Bus.Arn"),
        _ => None,
    }
}

#[test]
fn the_functions_of_the_template_have_the_rights_of_their_roles_and_that_to_write_their_logs() {
    let writes_log = |log| ("Log", (vec!["logs:CreateLogStream", "logs:PutLogEvents"], log));
    for (name, role, log) in [
        ("ForwarderRole", Role::Forwarder, "!GetAtt ForwarderLog.Arn"),
        ("KeeperRole", Role::Keeper, "!GetAtt KeeperLog.Arn"),
    ] {
        let rights = RIGHTS.iter().filter(|right| right.role == role);
        let mut rights: BTreeMap<_, _> = rights
            .filter_map(|right| Some((right.thing.sid(), (right.actions.to_vec(), called_in_template(right.thing)?))))
            .collect();
        rights.extend([writes_log(log)]);
        if role == Role::Forwarder {
            // Where the mapping puts a batch that it gave up.
            rights.insert("FailedBatches", (vec!["sqs:SendMessage"], "!GetAtt FailedBatches.Arn"));
        }
        assert_eq!(in_template(name), rights, "{name}");
    }
}

#[test]
fn the_api_of_the_template_has_a_writer_s_rights_and_those_to_its_own_tables_and_its_log() {
    let mut rights = in_template("CartsRole");
    for thing in [Thing::Entries, Thing::Heads] {
        let (actions, on) = rights.remove(thing.sid()).unwrap();
        assert_eq!(Some(on), called_in_template(thing));
        assert!(actions.iter().all(|action| allows(Role::Writer, thing, action)), "{thing:?}: {actions:?}");
    }
    let own = (vec!["dynamodb:GetItem", "dynamodb:PutItem"], "[!GetAtt CartsTable.Arn, !GetAtt RequestsTable.Arn]");
    let log = (vec!["logs:CreateLogStream", "logs:PutLogEvents"], "!GetAtt CartsLog.Arn");
    assert_eq!(rights, BTreeMap::from([("Carts", own), ("Log", log)]));
}

/// SAM adds managed policies, on everything there is, to roles that it makes itself.
#[test]
fn each_function_of_the_template_has_a_role_of_the_template() {
    for (function, role) in [
        ("CartsFunction", "Role: !GetAtt CartsRole.Arn"),
        ("ForwarderFunction", "Role: !GetAtt ForwarderRole.Arn"),
        ("KeeperFunction", "Role: !GetAtt KeeperRole.Arn"),
    ] {
        assert!(resource(function).any(|line| line == role), "{function}");
    }
    assert_eq!(TEMPLATE.matches("Type: AWS::Serverless::Function").count(), 3);
    assert!(!TEMPLATE.contains("ManagedPolicyArns"));
}

#[test]
fn a_policy_is_written_as_iam_reads_it() {
    let things = [
        (Thing::Bus, place().bus("carts")),
        (Thing::Bus, place().bus("carts")),
        (Thing::Objects, place().objects("carts-events", "events/")),
        (Thing::Bucket, place().bucket("carts-events")),
    ];
    let policy = serde_json::to_string_pretty(&Policy::of(Role::Relay, things).unwrap()).unwrap();
    assert_eq!(
        policy,
        r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "EventBus",
      "Effect": "Allow",
      "Action": [
        "events:DescribeEventBus",
        "events:PutEvents"
      ],
      "Resource": [
        "arn:aws:events:eu-west-1:111122223333:event-bus/carts"
      ]
    },
    {
      "Sid": "ClaimCheckBucket",
      "Effect": "Allow",
      "Action": [
        "s3:ListBucket"
      ],
      "Resource": [
        "arn:aws:s3:::carts-events"
      ]
    },
    {
      "Sid": "ClaimCheckObjects",
      "Effect": "Allow",
      "Action": [
        "s3:PutObject"
      ],
      "Resource": [
        "arn:aws:s3:::carts-events/events/*"
      ]
    }
  ]
}"#
    );
}

#[test]
fn arns_are_those_of_the_regions_partition() {
    let of = |region: &str| Place { region: region.to_owned(), ..place() };
    assert_eq!(of("cn-north-1").table("t"), "arn:aws-cn:dynamodb:cn-north-1:111122223333:table/t");
    assert_eq!(of("us-gov-west-1").bucket("b"), "arn:aws-us-gov:s3:::b");
    assert_eq!(place().streams("t"), "arn:aws:dynamodb:eu-west-1:111122223333:table/t/stream/*");
    assert_eq!(place().bus("arn:aws:events:x:1:event-bus/y"), "arn:aws:events:x:1:event-bus/y");
}

/// What the sources call, by the names that IAM has for it.
///
/// A file that sends something calls an operation of the list. Parts of transactions have no call of their own, and rights of
/// their own.
mod called {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    /// Parts of transactions, by what makes them; and what is asked for by a request that is signed here, by its path.
    const PARTS: [(&str, &str); 6] = [
        ("Put::builder()", "dynamodb:PutItem"),
        ("Update::builder()", "dynamodb:UpdateItem"),
        ("Delete::builder()", "dynamodb:DeleteItem"),
        ("ConditionCheck::builder()", "dynamodb:ConditionCheckItem"),
        ("event-source-mappings/?", "lambda:ListEventSourceMappings"),
        ("functions/{name}/configuration", "lambda:GetFunctionConfiguration"),
    ];

    /// The operations of the SDK that could be called: all of DynamoDB's tables and streams, and of EventBridge and S3 those
    /// of what a sink has to do with.
    const OPERATIONS: &str = "
        batch_execute_statement batch_get_item batch_write_item create_backup create_global_table create_table delete_backup
        delete_item delete_resource_policy delete_table describe_backup describe_continuous_backups
        describe_contributor_insights describe_endpoints describe_export describe_global_table describe_import
        describe_kinesis_streaming_destination describe_limits describe_table describe_time_to_live
        disable_kinesis_streaming_destination enable_kinesis_streaming_destination execute_statement execute_transaction
        export_table_to_point_in_time get_item get_resource_policy import_table list_backups list_contributor_insights
        list_exports list_global_tables list_imports list_tables list_tags_of_resource put_item put_resource_policy query
        restore_table_from_backup restore_table_to_point_in_time scan tag_resource transact_get_items
        transact_write_items untag_resource update_continuous_backups update_contributor_insights update_global_table
        update_item update_kinesis_streaming_destination update_table update_time_to_live
        describe_stream get_records get_shard_iterator list_streams
        create_event_bus delete_event_bus describe_event_bus describe_rule list_event_buses list_rules
        list_targets_by_rule put_events put_permission put_rule put_targets test_event_pattern update_event_bus
        abort_multipart_upload complete_multipart_upload copy_object create_bucket create_multipart_upload
        delete_object delete_objects get_bucket_location get_object get_object_attributes get_object_tagging
        head_bucket head_object list_buckets list_objects_v2 put_object put_object_tagging upload_part
    ";

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let own = ["testing", "iam", "tests.rs", "testing.rs"];
            if own.iter().any(|name| path.file_name().unwrap() == *name) {
                continue;
            }
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    /// The operations that `code` calls.
    fn operations(code: &str) -> BTreeSet<&'static str> {
        OPERATIONS.split_whitespace().filter(|operation| code.contains(&format!(".{operation}()"))).collect()
    }

    /// As IAM calls it; none for a transaction, which is its parts.
    fn action(path: &Path, operation: &str) -> Option<String> {
        let pascal: String = operation.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        let service = if path.ends_with("claim_check.rs") {
            "s3"
        } else if path.components().any(|part| part.as_os_str() == "dynamodb") {
            "dynamodb"
        } else {
            "events"
        };
        match (service, pascal.as_str()) {
            ("dynamodb", "TransactWriteItems") => None,
            ("s3", "HeadBucket") => Some("s3:ListBucket".to_owned()),
            _ => Some(format!("{service}:{pascal}")),
        }
    }

    /// Every action that the sources need.
    pub(super) fn actions() -> BTreeSet<String> {
        let mut files = Vec::new();
        sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
        let mut actions = BTreeSet::new();
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let code = code.join("\n");
            let operations = operations(&code);
            let sends = code.contains(".send()");
            assert_eq!(sends, !operations.is_empty(), "{}: it sends {operations:?}", file.display());
            actions.extend(operations.iter().filter_map(|operation| action(&file, operation)));
            let parts = PARTS.iter().filter(|(made, _)| {
                code.match_indices(made).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric()))
            });
            actions.extend(parts.map(|(_, action)| (*action).to_owned()));
        }
        actions
    }
}

#[test]
fn what_the_sources_call_is_what_the_policies_allow() {
    let mut allowed: std::collections::BTreeSet<_> =
        RIGHTS.iter().flat_map(|right| right.actions).map(|action| (*action).to_owned()).collect();
    // What the SDK does by itself, and what S3 and Lambda do in the name of whoever puts an encrypted object or is invoked.
    for by_others in ["sts:AssumeRole", "kms:GenerateDataKey", "dynamodb:ListStreams"] {
        assert!(allowed.remove(by_others), "{by_others}");
    }
    let called = called::actions();
    let missing: Vec<_> = called.difference(&allowed).collect();
    assert!(missing.is_empty(), "called, and no policy allows it: add to `iam/rights.rs`: {missing:?}");
    let idle: Vec<_> = allowed.difference(&called).collect();
    assert!(idle.is_empty(), "allowed, and nothing calls it: take it out of `iam/rights.rs`: {idle:?}");
}
