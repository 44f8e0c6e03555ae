//! `outbox iam`: the least rights on AWS, for a configuration.

use crate::place::Place;

fn place(routes: &str) -> Place {
    let place = Place::new();
    place.write("outbox.toml", &format!("[store]\nsqlite = 'a.db'\n{routes}\n"));
    place
}

const BUS: &str = "[[route]]\nname = 'bus'\neventbridge = { bus = 'carts', region = 'eu-west-1', claim_check = \
                   { bucket = 'carts-events', prefix = 'events/' } }";

#[test]
fn a_route_to_a_bus_needs_the_bus_and_its_bucket_and_nothing_else() {
    let ran = place(BUS).run(&["iam", "--account", "111122223333"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out, include_str!("iam/bus.json"));
}

#[test]
fn a_key_is_in_the_policy_once_it_is_configured() {
    let key = "arn:aws:kms:eu-west-1:111122223333:key/one";
    let configured = BUS.replace("prefix = 'events/'", &format!("kms_key = '{key}'"));
    let policy = place(&configured).json(&["iam", "--account", "111122223333"]);
    let statements = policy["Statement"].as_array().unwrap();
    let of_key = statements.iter().find(|statement| statement["Sid"] == "ClaimCheckKey").unwrap();
    assert_eq!((&of_key["Action"][0], &of_key["Resource"][0]), (&"kms:GenerateDataKey".into(), &key.into()));
    let objects = statements.iter().find(|statement| statement["Sid"] == "ClaimCheckObjects").unwrap();
    assert_eq!(objects["Resource"][0], "arn:aws:s3:::carts-events/*");
}

#[test]
fn a_role_that_is_assumed_has_a_policy_of_its_own() {
    let role = "arn:aws:iam::111122223333:role/publisher";
    let place = place(&format!(
        "[[route]]\nname = 'a'\neventbridge = {{ bus = 'a', region = 'eu-west-1', role = '{role}' }}\n\
         [[route]]\nname = 'b'\neventbridge = {{ bus = 'b', region = 'eu-west-1' }}"
    ));
    let of = |args: &[&str]| {
        let policy = place.json(args);
        let statements = policy["Statement"].as_array().unwrap().clone();
        let one = |statement: &serde_json::Value| format!("{} {}", statement["Action"][0], statement["Resource"]);
        statements.iter().map(one).collect::<Vec<_>>()
    };
    let bus =
        |name: &str| format!(r#""events:DescribeEventBus" ["arn:aws:events:eu-west-1:111122223333:event-bus/{name}"]"#);
    let other = bus("b").replace("111122223333", "444455556666");
    let assumed = format!(r#""sts:AssumeRole" ["{role}"]"#);
    assert_eq!(of(&["iam", "--account", "444455556666"]), [other, assumed], "the role may be another account's");
    assert_eq!(of(&["iam", "--assumed", role, "--account", "444455556666"]), [bus("a")]);
    let ran = place.run(&["iam", "--assumed", "arn:aws:iam::1:role/other"]);
    assert!(ran.code == 3 && ran.err.contains(role), "{}", ran.err);
}

#[test]
fn the_account_of_a_bus_is_not_that_of_the_tables() {
    let place = Place::new();
    let bus = "arn:aws:events:eu-west-1:111122223333:event-bus/others";
    let route = format!("[[route]]\nname = 'a'\neventbridge = '{bus}'");
    place.write("outbox.toml", &format!("[store]\ndynamodb = 'carts'\nregion = 'eu-west-1'\n{route}\n"));
    let ran = place.run(&["iam"]);
    assert!(ran.code == 2 && ran.err.contains("`carts-entries` is in no account that is known"), "{}", ran.err);
    let policy = place.json(&["iam", "--account", "444455556666"]).to_string();
    assert!(policy.contains(":444455556666:table/carts-entries") && policy.contains(bus), "{policy}");
}

#[test]
fn a_function_may_publish_to_the_bus_of_its_route_alone_and_check_may_look_at_functions() {
    let place = Place::new();
    let store = "[store]\ndynamodb = 'carts'\nregion = 'eu-west-1'\n[lambda]\nforwarders = { a = 'one', b = 'two' }";
    let route = |name: &str| {
        format!("[[route]]\nname = '{name}'\neventbridge = {{ bus = 'bus-{name}', region = 'eu-west-1' }}\n")
    };
    place.write("outbox.toml", &format!("{store}\n{}{}", route("a"), route("b")));
    let policy = |args: &[&str]| place.json(&[&["iam", "--account", "111122223333"], args].concat()).to_string();
    let of_a = policy(&["forwarder", "--route", "a"]);
    assert!(of_a.contains("event-bus/bus-a") && !of_a.contains("bus-b"), "{of_a}");
    let relay = policy(&["relay"]);
    for part in ["function:one", "function:two", "lambda:GetFunctionConfiguration", "lambda:ListEventSourceMappings"] {
        assert!(relay.contains(part), "{part}: {relay}");
    }
    let ran = place.run(&["iam", "forwarder", "--route", "c"]);
    assert!(ran.code == 3 && ran.err.contains("no route `c`"), "{}", ran.err);
}

#[test]
fn what_is_missing_for_an_arn_is_asked_for_by_name() {
    let place = place("[[route]]\nname = 'a'\neventbridge = 'carts'");
    let ran = place
        .command(&["iam", "--account", "111122223333"])
        .env_remove("AWS_REGION")
        .env_remove("AWS_DEFAULT_REGION")
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(2) && said.contains("--region"), "{said}");
    let ran = place.run(&["iam", "--region", "eu-west-1"]);
    assert!(ran.code == 2 && ran.err.contains("--account 111122223333"), "{}", ran.err);
    let ran = place.run(&["iam", "--region", "eu-west-1", "--account", "1"]);
    assert!(ran.code == 2 && ran.err.contains("twelve digits"), "{}", ran.err);
}

#[test]
fn each_role_needs_its_own_of_the_tables() {
    let place = Place::new();
    let route = "[[route]]\nname = 'a'\nstdout = true";
    place.write("outbox.toml", &format!("[store]\ndynamodb = 'carts'\nregion = 'eu-west-1'\n{route}\n"));
    let sids = |args: &[&str]| {
        let policy = place.json(&[&["iam", "--account", "111122223333", "--region", "eu-west-1"], args].concat());
        let statements = policy["Statement"].as_array().unwrap();
        statements.iter().map(|statement| statement["Sid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(sids(&["relay"]), ["Entries", "Stream", "Heads", "Bookkeeping"]);
    assert_eq!(sids(&["writer"]), ["Entries", "Heads"]);
    assert_eq!(sids(&["init"]), ["Entries", "Heads", "Bookkeeping"]);
    assert_eq!(sids(&["inbox", "--inbox", "ledger-inbox"]), ["Inbox"]);
}

#[test]
fn of_a_table_of_the_services_own_nobody_needs_more_than_its_items() {
    let place = Place::new();
    let (store, mapping) = ("dynamodb = 'carts'\nregion = 'eu-west-1'", "layout = 'dynamo-outbox'\ntable = 'mine'");
    let route = "[[route]]\nname = 'a'\nstdout = true";
    place
        .write("outbox.toml", &format!("[store]\n{store}\nproducer = '/carts'\n[store.mapping]\n{mapping}\n{route}\n"));
    let rights = |role: &str| {
        let policy = place.json(&["iam", role, "--account", "111122223333"]);
        let statements = policy["Statement"].as_array().unwrap();
        let of = |statement: &serde_json::Value| {
            let actions = statement["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap());
            let of_items = |action: &&str| !action.starts_with("dynamodb:Describe");
            (statement["Sid"].as_str().unwrap().to_owned(), actions.filter(of_items).collect::<Vec<_>>().join(" "))
        };
        statements.iter().map(of).collect::<Vec<_>>()
    };
    let named = |sid: &str, actions: &str| (sid.to_owned(), actions.to_owned());
    assert_eq!(rights("writer"), [named("MappedTable", "dynamodb:PutItem")]);
    assert_eq!(rights("init")[0], named("MappedTable", ""));
    let reads = "dynamodb:BatchGetItem dynamodb:Query dynamodb:Scan";
    assert_eq!(rights("relay")[0], named("MappedTable", reads));
}

#[test]
fn a_configuration_with_nothing_on_aws_needs_no_policy() {
    let ran = place("[[route]]\nname = 'a'\nstdout = true").run(&["iam"]);
    assert!(ran.code == 3 && ran.err.contains("needs no rights on AWS"), "{}", ran.err);
}
