//! ARNs: how a policy names things.

/// Where something is: partition, region and account.
///
/// Rule: "Actions, resources, and condition keys" of DynamoDB, EventBridge and S3 in the service authorization reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The region, as `eu-west-1`.
    pub region: String,
    /// The account's twelve digits.
    pub account: String,
}

impl Place {
    /// The partition that the region belongs to.
    pub fn partition(&self) -> &'static str {
        match self.region.as_str() {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            region if region.starts_with("eusc-") => "aws-eusc",
            _ => "aws",
        }
    }

    /// A table of DynamoDB.
    pub fn table(&self, name: &str) -> String {
        self.arn("dynamodb", &format!("table/{name}"))
    }

    /// The streams of a table: a new one has another label.
    pub fn streams(&self, table: &str) -> String {
        self.arn("dynamodb", &format!("table/{table}/stream/*"))
    }

    /// An event bus, by its name or by its ARN.
    pub fn bus(&self, bus: &str) -> String {
        if bus.starts_with("arn:") { bus.to_owned() } else { self.arn("events", &format!("event-bus/{bus}")) }
    }

    /// A function of Lambda, by its name or by its ARN.
    pub fn function(&self, function: &str) -> String {
        if function.starts_with("arn:") {
            function.to_owned()
        } else {
            self.arn("lambda", &format!("function:{function}"))
        }
    }

    /// A bucket.
    pub fn bucket(&self, name: &str) -> String {
        format!("arn:{}:s3:::{name}", self.partition())
    }

    /// Its objects whose keys begin with `prefix`.
    pub fn objects(&self, bucket: &str, prefix: &str) -> String {
        format!("{}/{prefix}*", self.bucket(bucket))
    }

    fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.partition(), self.region, self.account)
    }
}
