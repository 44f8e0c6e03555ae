//! Who needs what of which thing.

use super::{
    Role::{self, Forwarder, Inbox, Init, Keeper, Relay, Writer},
    Thing,
};

/// What a role needs of a thing.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// Who.
    pub role: Role,
    /// Of what.
    pub thing: Thing,
    /// The actions, sorted, as IAM calls them. A transaction needs those of its parts.
    pub actions: &'static [&'static str],
}

const fn right(role: Role, thing: Thing, actions: &'static [&'static str]) -> Right {
    Right { role, thing, actions }
}

/// What a function does in the bookkeeping.
const KEEPS_BOOKS: &[&str] = &[
    "dynamodb:ConditionCheckItem",
    "dynamodb:DeleteItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
];

/// Making a table, and its first item.
const MAKES_ROWS: &[&str] = &[
    "dynamodb:CreateTable",
    "dynamodb:DescribeTable",
    "dynamodb:DescribeTimeToLive",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
];

/// Claiming a store, and registering its routes.
const CLAIMS: &[&str] = &[
    "dynamodb:DescribeTable",
    "dynamodb:DescribeTimeToLive",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
];

/// Every right that there is.
pub const RIGHTS: &[Right] = &[
    right(
        Init,
        Thing::Entries,
        &["dynamodb:CreateTable", "dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive", "dynamodb:UpdateTimeToLive"],
    ),
    // The owner of a table makes it.
    right(Init, Thing::Mapped, &["dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"]),
    right(Init, Thing::Heads, MAKES_ROWS),
    right(Init, Thing::Store, MAKES_ROWS),
    right(Init, Thing::Bookkeeping, MAKES_ROWS),
    right(
        Init,
        Thing::Inbox,
        &[
            "dynamodb:CreateTable",
            "dynamodb:DescribeTable",
            "dynamodb:DescribeTimeToLive",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateTimeToLive",
        ],
    ),
    right(Init, Thing::AssumedRole, &["sts:AssumeRole"]),
    right(Writer, Thing::Entries, &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"]),
    right(Writer, Thing::Mapped, &["dynamodb:PutItem"]),
    right(Writer, Thing::Heads, &["dynamodb:ConditionCheckItem", "dynamodb:GetItem", "dynamodb:UpdateItem"]),
    right(Writer, Thing::AssumedRole, &["sts:AssumeRole"]),
    right(
        Relay,
        Thing::Entries,
        &[
            "dynamodb:BatchGetItem",
            "dynamodb:DescribeTable",
            "dynamodb:DescribeTimeToLive",
            "dynamodb:GetItem",
            "dynamodb:Query",
            "dynamodb:Scan",
            "dynamodb:UpdateItem",
        ],
    ),
    right(
        Relay,
        Thing::Mapped,
        &[
            "dynamodb:BatchGetItem",
            "dynamodb:DescribeTable",
            "dynamodb:DescribeTimeToLive",
            "dynamodb:Query",
            "dynamodb:Scan",
        ],
    ),
    right(Relay, Thing::Stream, &["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]),
    right(Relay, Thing::Heads, CLAIMS),
    right(Relay, Thing::Store, CLAIMS),
    right(
        Relay,
        Thing::Bookkeeping,
        &[
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:DescribeTable",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        ],
    ),
    right(Relay, Thing::Bus, &["events:DescribeEventBus", "events:PutEvents"]),
    // HeadBucket asks for the right to list.
    right(Relay, Thing::Bucket, &["s3:ListBucket"]),
    right(Relay, Thing::Objects, &["s3:PutObject"]),
    right(Relay, Thing::Key, &["kms:GenerateDataKey"]),
    // `outbox check` looks at the functions in its place.
    right(Relay, Thing::Function, &["lambda:GetFunctionConfiguration"]),
    right(Relay, Thing::Mappings, &["lambda:ListEventSourceMappings"]),
    right(Relay, Thing::AssumedRole, &["sts:AssumeRole"]),
    // What the stream left out is looked up.
    right(Forwarder, Thing::Entries, &["dynamodb:GetItem"]),
    // The mapping reads the stream as the function.
    right(
        Forwarder,
        Thing::Stream,
        &["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"],
    ),
    right(Forwarder, Thing::Heads, &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]),
    right(Forwarder, Thing::Bookkeeping, KEEPS_BOOKS),
    right(Forwarder, Thing::Bus, &["events:DescribeEventBus", "events:PutEvents"]),
    right(Forwarder, Thing::Objects, &["s3:PutObject"]),
    right(Forwarder, Thing::Key, &["kms:GenerateDataKey"]),
    right(Forwarder, Thing::AssumedRole, &["sts:AssumeRole"]),
    // A replay reads the table.
    right(
        Keeper,
        Thing::Entries,
        &["dynamodb:BatchGetItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Scan"],
    ),
    // It looks whether the stream holds what is not handed in.
    right(Keeper, Thing::Stream, &["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]),
    right(Keeper, Thing::Heads, &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]),
    right(Keeper, Thing::Bookkeeping, KEEPS_BOOKS),
    // It looks at its sinks when it begins, as a relay does.
    right(Keeper, Thing::Bus, &["events:DescribeEventBus", "events:PutEvents"]),
    right(Keeper, Thing::Bucket, &["s3:ListBucket"]),
    right(Keeper, Thing::Objects, &["s3:PutObject"]),
    right(Keeper, Thing::Key, &["kms:GenerateDataKey"]),
    right(Keeper, Thing::AssumedRole, &["sts:AssumeRole"]),
    right(
        Inbox,
        Thing::Inbox,
        &[
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:Scan",
            "dynamodb:UpdateItem",
        ],
    ),
];
