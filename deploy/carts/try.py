"""Fills carts through the API of the stack `carts`, and holds what arrives on its bus against what was committed.

Listens to the bus by a rule and a queue of its own, which it removes again. Exit code 1 if anything is missing or differs.
"""

import collections
import http.client
import json
import sys
import time
import urllib.parse
import uuid

import boto3

STACK = "carts"
CARTS = 50
WANTED = ["cart.created", "cart.items-added", "cart.checked-out"]
# The forwarder is handed a batch within seconds; what it could not publish, the keeper retries each minute.
PATIENCE_SECONDS = 180


class Gateway:
    """API Gateway, as it is on AWS."""

    def __init__(self, url):
        self.connection = http.client.HTTPSConnection(urllib.parse.urlsplit(url).hostname, timeout=60)

    def send(self, method, path, body, headers):
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read().decode()


class Function:
    """In its place where it is an emulator's, which knows no routes of an OpenAPI document: calls the function as it does."""

    def __init__(self, name):
        self.name, self.functions = name, boto3.client("lambda")

    def send(self, method, path, body, headers):
        request = {"http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "try"}}
        request |= {"accountId": "0", "apiId": "carts", "domainName": "carts", "domainPrefix": "carts", "requestId": "try"}
        request |= {"routeKey": "$default", "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 0}
        event = {"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": headers}
        event |= {"requestContext": request, "body": body, "isBase64Encoded": False}
        answer = self.functions.invoke(FunctionName=self.name, Payload=json.dumps(event))
        payload = json.loads(answer["Payload"].read())
        if "statusCode" not in payload:
            sys.exit(f"the function {self.name} failed: {payload}")
        return payload["statusCode"], payload.get("body", "")


class Api:
    """The carts' API."""

    def __init__(self, gateway):
        self.gateway = gateway

    def call(self, method, path, body=None, **headers):
        headers = {"content-type": "application/json", **headers}
        status, text = self.gateway.send(method, path, json.dumps(body) if body else "", headers)
        if status not in (200, 201):
            sys.exit(f"{method} {path}: {status} {text}")
        return json.loads(text)

    def fill(self, number):
        """A cart from its creation, which is sent twice as by a client that got no answer, to its checkout."""
        new, once = {"customer": f"{number:05}", "currency": "USD"}, {"idempotency-key": str(uuid.uuid4())}
        cart = self.call("POST", "/cart", new, **once)["id"]
        again = self.call("POST", "/cart", new, **once)["id"]
        if again != cart:
            sys.exit(f"the same request made two carts: {cart}, {again}")
        item = {"sku": "cd-1", "quantity": 1 + number % 3, "unit_price": 1177}
        self.call("PUT", f"/cart/{cart}/add-items", {"items": [item]})
        return self.call("PUT", f"/cart/{cart}/checkout")


class Bus:
    """What comes by a bus while it is listened to."""

    def __init__(self, name):
        self.name, self.rule = name, f"try-{uuid.uuid4().hex[:8]}"
        self.events, self.queues = boto3.client("events"), boto3.client("sqs")

    def __enter__(self):
        rule = self.events.put_rule(Name=self.rule, EventBusName=self.name, EventPattern=json.dumps({"source": ["/carts"]}))
        self.queue = self.queues.create_queue(QueueName=self.rule)["QueueUrl"]
        arn = self.queues.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        may = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": rule["RuleArn"]}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
        self.queues.set_queue_attributes(QueueUrl=self.queue, Attributes={"Policy": policy})
        self.events.put_targets(Rule=self.rule, EventBusName=self.name, Targets=[{"Id": "try", "Arn": arn}])
        return self

    def __exit__(self, *_):
        self.events.remove_targets(Rule=self.rule, EventBusName=self.name, Ids=["try"])
        self.events.delete_rule(Name=self.rule, EventBusName=self.name)
        self.queues.delete_queue(QueueUrl=self.queue)

    def receive(self, wanted):
        """Each event once, by cart and type, until so many are there; and how many came again, which a bus may do."""
        came, again, until = collections.defaultdict(dict), 0, time.monotonic() + PATIENCE_SECONDS
        while sum(map(len, came.values())) < wanted and time.monotonic() < until:
            answer = self.queues.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                event = json.loads(message["Body"])["detail"]
                again += event["type"] in came[event["subject"]]
                came[event["subject"]][event["type"]] = event
                self.queues.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return came, again


def gateway():
    stacks = boto3.client("cloudformation")
    if boto3.client("sts").meta.endpoint_url.startswith("https:"):
        outputs = stacks.describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
        return Gateway(next(output["OutputValue"] for output in outputs if output["OutputKey"] == "Url"))
    resource = stacks.describe_stack_resource(StackName=STACK, LogicalResourceId="CartsFunction")
    return Function(resource["StackResourceDetail"]["PhysicalResourceId"])


def main():
    api = Api(gateway())
    began = time.monotonic()
    with Bus(STACK) as bus:
        carts = [api.fill(number) for number in range(CARTS)]
        came, again = bus.receive(CARTS * len(WANTED))
    for cart in carts:
        events = came[cart["id"]]
        if sorted(events) != sorted(WANTED):
            sys.exit(f"of cart {cart['id']} came {sorted(events)}")
        # The last event holds the cart as the API gave it.
        if events[WANTED[-1]]["data"]["cart"] != cart:
            sys.exit(f"cart {cart['id']} is {cart}, and by its event {events[WANTED[-1]]['data']['cart']}")
    if len(came) != CARTS:
        sys.exit(f"events came of {len(came)} carts, not of {CARTS}")
    took = time.monotonic() - began
    print(f"{CARTS} carts, {CARTS * len(WANTED)} events: all on the bus after {took:.0f} s, {again} of them more than once")


if __name__ == "__main__":
    main()
