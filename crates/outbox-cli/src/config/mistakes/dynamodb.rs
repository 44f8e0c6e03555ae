//! What can be wrong about a store on DynamoDB.

use super::{Mistake, check, mistake};

const MISTAKES: &[Mistake] = &[
    mistake(
        "[store]\ndynamodb = 'a b' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.dynamodb",
        "cannot name tables",
        "letters, digits",
    ),
    mistake(
        "[store]\nsqlite = 'a.db'\ndynamodb = 'a' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.dynamodb",
        "there is `sqlite` already",
        "leave the others out",
    ),
    mistake(
        "[store]\npostgres = 'postgres://a@localhost/a'\ndynamodb = 'a' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.dynamodb",
        "there is `postgres` already",
        "leave the others out",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\nregion = 'Ireland' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.region",
        "is not a region",
        "eu-west-1",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\nrecovery_share = '0%' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.recovery_share",
        "is no share",
        "1% to 100%",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\nretention = 'off' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.retention",
        "is no age",
        "{ age = \"30d\" }",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\nretention = { newest = 3 } # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.retention",
        "names no `age`",
        "{ age = \"30d\" }",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\nretention = { age = '1h' } # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.retention.age",
        "out of range",
        "1d",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\nmapping = 'debezium' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.mapping",
        "names no table",
        "[store.mapping]",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\n[store.mapping]\nlayout = 'debezium' # <-\ntable = 't'\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.mapping.layout",
        "`debezium` is no layout",
        "dynamo-outbox",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\n[store.mapping] # <-\nlayout = 'dynamo-outbox'\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.mapping.table",
        "is missing",
        "name the table",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\n[store.mapping] # <-\ntable = 't'\npartition = 'id'\ntype = 'type'\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.mapping.payload",
        "is missing",
        "payloads",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\n[store.mapping]\nlayout = 'dynamo-outbox'\ntable = 't'\nrecovery = 'scan' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.mapping.recovery",
        "`scan` is no way",
        "as-it-is",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\n[store.mapping] # <-\nlayout = 'dynamo-outbox'\ntable = 't'\nkey = 'detail.cart'\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.mapping",
        "in any order",
        "A table of your own",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\npoll = '1s' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.poll",
        "unknown key",
        "known here",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\n[relay]\nbookkeeping = 'dynamodb:a-heads' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "relay.bookkeeping",
        "one of the service's own tables",
        "a table of its own",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\n[lambda]\nforwarders = { a = 'f', b = 'arn:aws:lambda:eu-west-1:1:function:f' } # <-\n[[route]]\nname = 'a'\nstdout = true\n[[route]]\nname = 'b'\nstdout = true\n",
        "lambda.forwarders",
        "name the same function",
        "of its own",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\n[lambda]\nforwarders = { a = 'e', b = 'f', c = 'g' } # <-\n[[route]]\nname = 'a'\nstdout = true\n[[route]]\nname = 'b'\nstdout = true\n[[route]]\nname = 'c'\nstdout = true\n",
        "lambda.forwarders",
        "3 functions would read one stream",
        "fan out by its rules",
    ),
    mistake(
        "[store]\ndynamodb = 'a'\n[relay]\nschema = 'relay' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "relay.schema",
        "has no schemas",
        "PostgreSQL",
    ),
];

#[test]
fn every_mistake_about_a_store_on_dynamodb_names_its_place_and_remedy() {
    for mistake in MISTAKES {
        check(mistake, mistake.text);
    }
}
