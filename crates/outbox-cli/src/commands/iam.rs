//! `outbox iam`: prints the least rights that a configuration needs on AWS, as a policy.

use std::collections::BTreeSet;

use outbox_aws::iam::{Place, Policy, Role, Thing};

use crate::{
    commands::listed,
    config::Config,
    exit::{Exit, Failure, Outcome},
    output::Output,
};

mod used;

use used::{Named, Used};

/// Whose policy, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who acts
    #[arg(value_enum, default_value = "relay")]
    role: Actor,
    /// The account, twelve digits, of what no ARN or role in the configuration names one for
    #[arg(long, value_name = "DIGITS")]
    account: Option<String>,
    /// The region of what the configuration gives none [default: `AWS_REGION`]
    #[arg(long)]
    region: Option<String>,
    /// Of the routes, this one alone: a function publishes but one
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// The table of inboxes, for `init` and `inbox`
    #[arg(long, value_name = "TABLE", required_if_eq("role", "inbox"))]
    inbox: Option<String>,
    /// The policy of this role, which the configuration assumes [default: that of whoever assumes it]
    #[arg(long, value_name = "ARN")]
    assumed: Option<String>,
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Actor {
    /// A relay, and the commands that look at it and mend it
    Relay,
    /// The function that publishes what the stream hands in, besides its log
    Forwarder,
    /// The function that retries and replays what is kept, besides its log
    Keeper,
    /// A service that writes events, besides what it does in its own tables
    Writer,
    /// `outbox init`
    Init,
    /// A consumer's inbox in the table that --inbox names, besides what its handlers do in their own tables
    Inbox,
}

impl From<Actor> for Role {
    fn from(actor: Actor) -> Self {
        match actor {
            Actor::Relay => Self::Relay,
            Actor::Forwarder => Self::Forwarder,
            Actor::Keeper => Self::Keeper,
            Actor::Writer => Self::Writer,
            Actor::Init => Self::Init,
            Actor::Inbox => Self::Inbox,
        }
    }
}

/// Prints the policy.
pub(crate) fn run(config: &Config, out: Output, args: &Args) -> Outcome {
    let mut used = used::by(config);
    if let Some(route) = &args.route {
        if config.route(route).is_none() {
            let help = "name one that the configuration has";
            return Err(Failure::not_found(format!("there is no route `{route}`")).help(help));
        }
        used.retain(|used| used.route.as_ref().is_none_or(|of| of.as_str() == route));
    }
    used.extend(args.inbox.as_deref().map(used::inbox));
    let things = things(&used, args)?;
    let Some(policy) = Policy::of(args.role.into(), things) else {
        let who = clap::ValueEnum::to_possible_value(&args.role).map_or_else(String::new, |v| v.get_name().to_owned());
        let help = "nothing in this configuration that it would touch is on AWS: check `[store]` and the routes";
        return Err(Failure::not_found(format!("`{who}` needs no rights on AWS")).help(help));
    };
    if out.json {
        out.value(&policy);
    } else {
        let text = serde_json::to_string_pretty(&policy);
        out.line(text.map_err(|error| Failure::new("the policy cannot be written").because(&error))?);
    }
    Ok(Exit::Ok)
}

/// What is touched as whoever is asked for, by its ARN.
fn things(used: &[Used], args: &Args) -> Result<Vec<(Thing, String)>, Failure> {
    if let Some(asked) = &args.assumed {
        let assumed: BTreeSet<_> = used.iter().filter_map(|used| used.aws.role.as_deref()).collect();
        if !assumed.contains(asked.as_str()) {
            let assumed = listed(assumed.into_iter());
            return Err(Failure::not_found(format!("no role `{asked}` is assumed; of roles, {assumed}")));
        }
    }
    let mut things = Vec::new();
    for used in used {
        match &used.aws.role {
            Some(role) if args.assumed.is_none() => things.push((Thing::AssumedRole, role.clone())),
            role if *role == args.assumed => things.push((used.thing, arn(used, args)?)),
            _ => {}
        }
    }
    Ok(things)
}

fn arn(used: &Used, args: &Args) -> Result<String, Failure> {
    let place =
        || -> Result<Place, Failure> { Ok(Place { region: region(used, args)?, account: account(used, args)? }) };
    // The names of buckets are the partition's.
    let partition = || -> Result<Place, Failure> { Ok(Place { region: region(used, args)?, account: String::new() }) };
    Ok(match &used.named {
        Named::Arn(arn) => arn.clone(),
        Named::Bus(name) => place()?.bus(name),
        Named::Function(function) => place()?.function(function),
        Named::Mappings => "*".to_owned(),
        Named::Table(name) => place()?.table(name),
        Named::Streams(table) => place()?.streams(table),
        Named::Bucket(name) => partition()?.bucket(name),
        Named::Objects { bucket, prefix } => partition()?.objects(bucket, prefix),
    })
}

fn region(used: &Used, args: &Args) -> Result<String, Failure> {
    let environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok());
    let region = used.aws.region.clone().or_else(|| args.region.clone()).or_else(environment);
    region.filter(|region| !region.is_empty()).ok_or_else(|| {
        let message = format!("{} has no region", used.named);
        Failure::usage(message).help("name it in the configuration, by --region, or by AWS_REGION")
    })
}

fn account(used: &Used, args: &Args) -> Result<String, Failure> {
    let account = used.account.clone().or_else(|| args.account.clone());
    let Some(account) = account else {
        let message = format!("{} is in no account that is known", used.named);
        return Err(Failure::usage(message).help("give the account, as --account 111122223333"));
    };
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::usage(format!("`{account}` is not an account")).help("write its twelve digits"));
    }
    Ok(account)
}
