"""The one table of what AWS and its SDK can say: by service and code, the exit code and what to do about it.

The codes are those of the service models (botocore's, for every operation in ``OPERATIONS``), of AWS's lists of common
errors ("Common Errors" of each API reference; "Error responses" of S3; "Error handling with DynamoDB"), of KMS in each
service's spelling, and the SDK's own exceptions. A test walks the installed models: an error of an operation that is
called has a row here, or the test fails. For a code without a row the HTTP status decides (see ``meaning``).

``python -m worker.adapters.aws.error_table`` prints ``docs/aws-errors.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from worker.core.errors import ExitCode


class Kind(StrEnum):
    """What the cure is about."""

    PERMISSION = "a permission"
    CREDENTIALS = "the credentials"
    CLOCK = "the clock"
    KEY = "the KMS key"
    ACCOUNT = "the account"
    MISSING = "what does not exist"
    REGION = "the Region"
    REQUEST = "settings that AWS does not take"
    ONE_ITEM = "one record"
    QUOTA = "a quota of the account"
    TAKEN = "a name that is taken"
    BUSY = "too many requests"
    UNWELL = "a service that fails"
    NETWORK = "the network"
    STATE = "what happens at the same time"


PERSON, WAIT = ExitCode.PERSON_MUST_ACT, ExitCode.DEPENDENCY_UNAVAILABLE

EXITS: Mapping[Kind, ExitCode] = {
    Kind.PERMISSION: PERSON,
    Kind.CREDENTIALS: PERSON,
    Kind.CLOCK: PERSON,
    Kind.KEY: PERSON,
    Kind.ACCOUNT: PERSON,
    Kind.MISSING: PERSON,
    Kind.REGION: PERSON,
    Kind.REQUEST: PERSON,
    Kind.ONE_ITEM: PERSON,
    Kind.QUOTA: PERSON,
    Kind.TAKEN: ExitCode.USAGE,
    Kind.BUSY: WAIT,
    Kind.UNWELL: WAIT,
    Kind.NETWORK: WAIT,
    Kind.STATE: WAIT,
}
"""The exit code of each kind. A person acts where waiting alone cannot help."""

CURES: Mapping[Kind, str] = {
    Kind.PERMISSION: "allow {operation}, and the key's use, to this role: config/iam has the policies",
    Kind.CREDENTIALS: "renew the AWS credentials of this process: aws sts get-caller-identity shows whether they work",
    Kind.CLOCK: "set this machine's clock (NTP): AWS takes no request that is dated minutes away from its own time",
    Kind.KEY: "look at the KMS key: is it there, enabled, for encryption, and do its policy and config/iam allow this "
    "role to use it?",
    Kind.ACCOUNT: "look at the AWS account: is it active, signed up for the service, and is the Region enabled?",
    Kind.MISSING: "correct its name in the settings, or create it: mfa-worker init",
    Kind.REGION: "correct aws.region: it is in another Region than the settings say",
    Kind.REQUEST: "correct the settings that {operation} is about; mfa-worker check looks at each of them",
    Kind.ONE_ITEM: "send fewer attributes with this request, or deliver through another channel",
    Kind.QUOTA: "have the quota raised (Service Quotas), or make room",
    Kind.TAKEN: "choose another name in the settings: this one belongs to somebody else",
    Kind.BUSY: "wait, and run again: nothing is lost. Where it stays so, raise the capacity or lower the rate",
    Kind.UNWELL: "look at the service and the network (endpoint, proxy, VPC endpoint); nothing is lost, run again",
    Kind.NETWORK: "look at the service and the network (endpoint, proxy, VPC endpoint); nothing is lost, run again",
    Kind.STATE: "run again: nothing is lost, something else was changing the same thing",
}
"""What to do, for people; ``{operation}`` becomes the operation's name."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one code means; without a ``cure`` of its own it has that of its kind."""

    kind: Kind
    cure: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that ends with it."""
        return EXITS[self.kind]

    def what_to_do(self, operation: str = "") -> str:
        """The cure in words."""
        return (self.cure or CURES[self.kind]).replace("{operation}", operation or "it")


def _rows(kind: Kind, codes: str, cure: str = "") -> dict[str, Meaning]:
    return dict.fromkeys(codes.split(), Meaning(kind, cure))


OPERATIONS: Mapping[str, str] = {
    "sqs": "ChangeMessageVisibility ChangeMessageVisibilityBatch CreateQueue DeleteMessage "
    "DeleteMessageBatch DeleteQueue GetQueueAttributes GetQueueUrl ListDeadLetterSourceQueues "
    "PurgeQueue ReceiveMessage SendMessageBatch SetQueueAttributes",
    "dynamodb": "BatchGetItem CreateTable DeleteTable DescribeContinuousBackups DescribeTable DescribeTimeToLive "
    "GetItem PutItem Query Scan TransactWriteItems UpdateContinuousBackups UpdateItem UpdateTable",
    "s3": "CreateBucket DeleteObjects GetBucketEncryption GetBucketPolicy GetBucketVersioning GetObject "
    "GetObjectRetention GetPublicAccessBlock HeadBucket ListObjectVersions ListObjectsV2 "
    "PutBucketEncryption PutBucketLifecycleConfiguration PutBucketPolicy PutBucketVersioning "
    "PutObject PutPublicAccessBlock",
    "secretsmanager": "CreateSecret DeleteSecret DescribeSecret GetSecretValue ListSecrets PutSecretValue "
    "UpdateSecretVersionStage",
    "kms": "GenerateDataKey",
    "sts": "AssumeRole AssumeRoleWithWebIdentity GetCallerIdentity",
    "sso": "GetRoleCredentials",
    "sso-oidc": "CreateToken",
    "service-quotas": "ListServiceQuotas",
    "cognito-idp": "AdminInitiateAuth AdminSetUserMFAPreference DeleteUserPoolClient DescribeUserPool "
    "DescribeUserPoolClient GetUserPoolMfaConfig ListUserPoolClients UpdateUserPool",
    "cloudformation": "DescribeStackResources",
}
"""Service → the operations that this program calls, or that the SDK calls to get credentials."""

_SERVICE_OF = {operation: service for service, names in OPERATIONS.items() for operation in names.split()}

_NOT_A_KEY = ("Throttl", "Internal", "DependencyTimeout", "KeyUnavailable", "LimitExceeded")
"""Parts of KMS's codes that say that KMS itself is busy or fails, and not that the key may not be used."""

_SIGNATURES = frozenset({"InvalidSignatureException", "InvalidSignature", "SignatureDoesNotMatch"})
"""Codes for a signature that is not accepted: only the message says whether the clock or the credentials are wrong."""
_OF_THE_CLOCK = ("expired", "not yet current", "too skewed")
"""Words in the message of such a refusal that mean the clock ("Signature expired: … is now earlier than …")."""

EVERY_SERVICE: Mapping[str, Meaning] = {
    **_rows(
        Kind.PERMISSION,
        "AccessDenied AccessDeniedException AuthorizationError AuthorizationErrorException NotAuthorized "
        "NotAuthorizedException UnauthorizedOperation UnauthorizedAccess Forbidden ForbiddenException 401 403",
    ),
    **_rows(
        Kind.CREDENTIALS,
        "AuthFailure ExpiredToken ExpiredTokenException IncompleteSignature IncompleteSignatureException "
        "InvalidAccessKeyId InvalidClientTokenId InvalidSignature InvalidSignatureException InvalidToken "
        "InvalidTokenException MissingAuthenticationToken MissingAuthenticationTokenException MissingSecurityHeader "
        "RequestCanceled SignatureDoesNotMatch TokenRefreshRequired UnrecognizedClientException",
    ),
    **_rows(Kind.CLOCK, "RequestExpired RequestTimeTooSkewed RequestInTheFuture"),
    **_rows(
        Kind.ACCOUNT,
        "AccountProblem AllAccessDisabled Blocked NotSignedUp OptInRequired PendingVerification "
        "RegionDisabledException SubscriptionRequiredException UnsupportedRegion",
    ),
    **_rows(
        Kind.UNWELL,
        "InternalError InternalErrorException InternalFailure InternalServerError InternalServerErrorException "
        "InternalServerException InternalServiceError InternalServiceException ServiceException ServiceFailure "
        "ServiceUnavailable ServiceUnavailableException RequestAbortedException RequestTimeout "
        "RequestTimeoutException PriorRequestNotComplete unknown 408 500 502 503 504",
    ),
    **_rows(
        Kind.BUSY,
        "BandwidthLimitExceeded EC2ThrottledException LimitExceeded PriorRequestNotComplete "
        "ProvisionedThroughputExceededException RequestLimitExceeded RequestThrottled RequestThrottledException "
        "SlowDown SlowDownException ThrottledException Throttling ThrottlingException TooManyRequests "
        "TooManyRequestsException 429",
    ),
    **_rows(
        Kind.REQUEST,
        "InvalidAction InvalidParameterCombination InvalidParameterException InvalidParameterValue "
        "InvalidQueryParameter MalformedHttpRequestException MalformedQueryString MalformedQueryStringException "
        "MissingAction MissingParameter NotImplemented RequestEntityTooLargeException SerializationException "
        "UnknownOperationException UnsupportedOperation ValidationError ValidationException 400 405",
    ),
    **_rows(Kind.MISSING, "ResourceNotFoundException 404"),
    **_rows(
        Kind.REGION,
        "301 307 308",
        "something redirects: correct aws.region and the endpoint (aws.…_endpoint_url, AWS_ENDPOINT_URL); "
        "a request is never sent on to another address",
    ),
}
"""What means the same from whatever service it comes. The numbers are the codes that the SDK gives to an answer
without a body, such as one to HEAD."""

SERVICES: Mapping[str, Mapping[str, Meaning]] = {
    "sqs": {
        **_rows(
            Kind.BUSY,
            "OverLimit",
            "the queue has too many messages in flight (about 120,000 a queue): let the workers finish or their "
            "visibility end, then run again",
        ),
        **_rows(Kind.BUSY, "KmsThrottled"),
        **_rows(Kind.MISSING, "QueueDoesNotExist NonExistentQueue InvalidAddress"),
        **_rows(
            Kind.CREDENTIALS,
            "InvalidSecurity",
            "send requests by https and signed (version 4): look at AWS_ENDPOINT_URL, and at the credentials",
        ),
        **_rows(
            Kind.STATE,
            "QueueDeletedRecently",
            "a queue of this name was deleted within the last minute: wait 60 seconds, then run it again",
        ),
        **_rows(
            Kind.TAKEN,
            "QueueNameExists QueueAlreadyExists",
            "a queue of this name exists with other properties: keep it, and correct the settings, or choose another "
            "name",
        ),
        **_rows(Kind.STATE, "MessageNotInflight ReceiptHandleIsInvalid PurgeQueueInProgress"),
        **_rows(Kind.ONE_ITEM, "BatchRequestTooLong InvalidMessageContents"),
        **_rows(
            Kind.REQUEST,
            "BatchEntryIdsNotDistinct EmptyBatchRequest InvalidAttributeName InvalidAttributeValue "
            "InvalidBatchEntryId InvalidIdFormat TooManyEntriesInBatchRequest UnsupportedOperation",
        ),
        **_rows(
            Kind.KEY, "KmsOptInRequired", "sign the account up for KMS, or encrypt the queue with SqsManagedSseEnabled"
        ),
        **_rows(Kind.KEY, "KmsAccessDenied KmsDisabled KmsInvalidKeyUsage KmsInvalidState KmsNotFound"),
    },
    "dynamodb": {
        **_rows(
            Kind.BUSY,
            "ProvisionedThroughputExceededException",
            "wait, and run again: nothing is lost. The table has too little capacity: switch it to on demand "
            "(aws dynamodb update-table --billing-mode PAY_PER_REQUEST), or raise its capacity and the index's",
        ),
        **_rows(Kind.BUSY, "RequestLimitExceeded ThrottlingException LimitExceededException"),
        **_rows(
            Kind.MISSING,
            "ResourceNotFoundException TableNotFoundException IndexNotFoundException",
            "restore the table (it knows who was delivered), and its index; or correct ledger.table and aws.region",
        ),
        **_rows(Kind.STATE, "ResourceInUseException", "the table is being made or changed: wait a minute, run again"),
        **_rows(
            Kind.STATE,
            "ConditionalCheckFailedException ContinuousBackupsUnavailableException "
            "IdempotentParameterMismatchException ReplicatedWriteConflictException TransactionCanceledException "
            "TransactionConflictException TransactionInProgressException",
        ),
        **_rows(Kind.ONE_ITEM, "ItemCollectionSizeLimitExceededException"),
        **_rows(
            Kind.REQUEST,
            "ValidationException",
            "the table is no ledger of this version, or its index is missing: mfa-worker check says which",
        ),
        **_rows(
            Kind.KEY, "InaccessibleEncryptionCredentialsException KMSInvalidStateException KMSAccessDeniedException"
        ),
        **_rows(Kind.UNWELL, "InternalServerError"),
    },
    "s3": {
        **_rows(
            Kind.REGION,
            "PermanentRedirect PermanentRedirectControlError TemporaryRedirect Redirect AuthorizationHeaderMalformed "
            "IllegalLocationConstraintException IncorrectEndpoint EndpointNotFound InvalidLocationConstraint 301 307",
            "the bucket is in another Region than aws.region says (aws s3api head-bucket --bucket … tells its own): "
            "set aws.region to that, or name another bucket",
        ),
        **_rows(
            Kind.MISSING, "NoSuchBucket NoSuchKey NoSuchAccessPoint NoSuchUpload NoSuchVersion AccessPointNotFound"
        ),
        **_rows(
            Kind.TAKEN,
            "BucketAlreadyExists",
            "choose another channel.bucket: this name belongs to another account, and names are shared by all accounts",
        ),
        **_rows(
            Kind.STATE, "BucketAlreadyOwnedByYou ConditionalRequestConflict OperationAborted PreconditionFailed 412"
        ),
        **_rows(
            Kind.PERMISSION,
            "403",
            "allow {operation} to this role (config/iam has the policies); or the bucket belongs to another account: "
            "name one of yours",
        ),
        **_rows(
            Kind.REGION,
            "400",
            "S3 does not say why, as that question has no body: look at aws.region, and whether the credentials are "
            "valid (aws sts get-caller-identity)",
        ),
        **_rows(Kind.QUOTA, "TooManyBuckets"),
        **_rows(Kind.ONE_ITEM, "EntityTooLarge InvalidURI KeyTooLongError MaxMessageLengthExceeded MetadataTooLarge"),
        **_rows(
            Kind.REQUEST,
            "BadDigest BucketHasAccessPointsAttached EncryptionTypeMismatch InvalidArgument InvalidBucketName "
            "InvalidBucketState InvalidDigest InvalidEncryptionAlgorithmError InvalidObjectState InvalidRequest "
            "InvalidWriteOffset MalformedPolicy MalformedXML MethodNotAllowed TooManyParts "
            "UnsupportedArgument XAmzContentSHA256Mismatch",
        ),
        **_rows(
            Kind.STATE,
            "NoSuchBucketPolicy NoSuchLifecycleConfiguration NoSuchPublicAccessBlockConfiguration "
            "ServerSideEncryptionConfigurationNotFoundError ReplicationConfigurationNotFoundError",
        ),
        **_rows(Kind.CREDENTIALS, "InvalidSecurity InvalidPayer CredentialsNotSupported"),
        **_rows(Kind.NETWORK, "IncompleteBody MissingContentLength"),
    },
    "secretsmanager": {
        **_rows(Kind.KEY, "DecryptionFailure EncryptionFailure"),
        **_rows(
            Kind.QUOTA,
            "LimitExceededException",
            "a Region holds 500,000 secrets, and no more on request: more users than a pilot has go through S3",
        ),
        **_rows(
            Kind.REQUEST,
            "InvalidNextTokenException InvalidParameterException MalformedPolicyDocumentException "
            "PreconditionNotMetException PublicPolicyException",
        ),
        **_rows(
            Kind.REQUEST,
            "InvalidRequestException",
            "a secret is scheduled for deletion, or another service owns it: restore it (aws secretsmanager "
            "restore-secret), or choose another channel.prefix",
        ),
        **_rows(Kind.STATE, "ResourceExistsException"),
        **_rows(Kind.MISSING, "ResourceNotFoundException"),
    },
    "kms": {
        **_rows(
            Kind.KEY,
            "DisabledException IncorrectKeyException InvalidCiphertextException InvalidGrantTokenException "
            "InvalidKeyUsageException KMSInvalidMacException KMSInvalidSignatureException KMSInvalidStateException "
            "NotFoundException AlreadyExistsException InvalidArnException",
        ),
        **_rows(Kind.UNWELL, "DependencyTimeoutException KMSInternalException KeyUnavailableException"),
        **_rows(Kind.BUSY, "LimitExceededException"),
        **_rows(Kind.STATE, "DryRunOperationException"),
    },
    "sts": {
        **_rows(
            Kind.CREDENTIALS,
            "IDPRejectedClaim InvalidIdentityToken InvalidIdentityTokenException IDPRejectedClaimException "
            "ExpiredTokenException",
            "the role does not take this web identity token: look at the role's trust policy, the identity provider, "
            "and whether the mounted token is renewed",
        ),
        **_rows(Kind.UNWELL, "IDPCommunicationError IDPCommunicationErrorException"),
        **_rows(
            Kind.PERMISSION,
            "AccessDenied AccessDeniedException",
            "let these credentials assume the role: look at role_arn of the profile, and at the role's trust policy",
        ),
        **_rows(
            Kind.REQUEST,
            "MalformedPolicyDocument MalformedPolicyDocumentException PackedPolicyTooLarge "
            "PackedPolicyTooLargeException InvalidAuthorizationMessageException ValidationError",
            "correct role_arn, role_session_name and duration_seconds of the profile",
        ),
    },
    "sso": {
        **_rows(
            Kind.CREDENTIALS,
            "UnauthorizedException ForbiddenException ResourceNotFoundException InvalidRequestException",
            "sign in again: aws sso login --profile PROFILE; and look at sso_account_id and sso_role_name there",
        ),
        **_rows(Kind.BUSY, "TooManyRequestsException"),
    },
    "sso-oidc": {
        **_rows(
            Kind.CREDENTIALS,
            "AccessDeniedException AuthorizationPendingException ExpiredTokenException InvalidClientException "
            "InvalidGrantException InvalidRequestException InvalidScopeException UnauthorizedClientException "
            "UnsupportedGrantTypeException",
            "sign in again: aws sso login --profile PROFILE",
        ),
        **_rows(Kind.UNWELL, "InternalServerException"),
    },
    "service-quotas": {
        **_rows(Kind.REQUEST, "IllegalArgumentException InvalidPaginationTokenException"),
        **_rows(Kind.MISSING, "NoSuchResourceException"),
    },
    "cognito-idp": {
        **_rows(
            Kind.MISSING,
            "ResourceNotFoundException",
            "correct cognito.user_pool_id, cognito.region and sign_in.client_id: there is no such pool or app client",
        ),
        **_rows(
            Kind.ONE_ITEM,
            "PasswordResetRequiredException UserLambdaValidationException UserNotConfirmedException "
            "UserNotFoundException",
            "nothing for the run: it is an answer about one user, and the report says what became of that user",
        ),
        **_rows(
            Kind.REQUEST,
            "InvalidEmailRoleAccessPolicyException InvalidSmsRoleAccessPolicyException "
            "InvalidSmsRoleTrustRelationshipException InvalidUserPoolConfigurationException MFAMethodNotFoundException "
            "FeatureUnavailableInTierException TierChangeNotAllowedException "
            "UnsupportedOperationException",
            "correct the user pool: its factors, and the roles with which it sends mail and text messages",
        ),
        **_rows(
            Kind.UNWELL,
            "InvalidLambdaResponseException UnexpectedLambdaException",
            "repair or remove the user pool's Lambda trigger: its log (CloudWatch) says what fails; then run again",
        ),
        **_rows(Kind.STATE, "ConcurrentModificationException"),
        **_rows(Kind.STATE, "UserImportInProgressException", "wait until the pool's import of users ends"),
        **_rows(Kind.REQUEST, "UserPoolTaggingException", "correct the user pool's tags"),
    },
    "credentials": {
        **_rows(
            Kind.CREDENTIALS,
            "NoCredentialsError",
            "give the process AWS credentials: a role, a profile (aws.profile) or variables",
        ),
        **_rows(
            Kind.CREDENTIALS,
            "PartialCredentialsError",
            "give both halves: in the variables or the profile an access key id is without its secret key (or the "
            "other way round), or role_arn is without source_profile or credential_source",
        ),
        **_rows(Kind.CREDENTIALS, "ProfileNotFound", "correct aws.profile or AWS_PROFILE: aws configure list-profiles"),
        **_rows(
            Kind.CREDENTIALS,
            "ConfigParseError ConfigNotFound",
            "correct the AWS configuration file (AWS_CONFIG_FILE, else ~/.aws/config) and the credentials file: "
            "aws configure list shows what cannot be read",
        ),
        **_rows(
            Kind.CREDENTIALS,
            "InvalidConfigError InfiniteLoopConfigError UnknownCredentialError NoRegionError",
            "correct the profile in ~/.aws/config: a key that it needs is missing or wrong (role_arn, source_profile, "
            "credential_source, sso_…, region)",
        ),
        **_rows(
            Kind.CREDENTIALS,
            "SSOTokenLoadError UnauthorizedSSOTokenError SSOError TokenRetrievalError NoAuthTokenError",
            "sign in: aws sso login --profile PROFILE",
        ),
        **_rows(
            Kind.CREDENTIALS,
            "RefreshWithMFAUnsupportedError",
            "use a profile without mfa_serial: a worker cannot type a code",
        ),
        **_rows(
            Kind.CREDENTIALS,
            "WebIdentityTokenFile",
            "mount the web identity token where AWS_WEB_IDENTITY_TOKEN_FILE (or web_identity_token_file) says: it is "
            "not there, or this user may not read it",
        ),
        **_rows(
            Kind.CREDENTIALS,
            "CredentialProcess",
            "correct credential_process of the profile: its path, and what it prints (JSON with Version 1, AccessKeyId "
            "and SecretAccessKey, within 30 seconds, exit code 0)",
        ),
        **_rows(
            Kind.CREDENTIALS,
            "ContainerCredentials",
            "the container's credentials (AWS_CONTAINER_CREDENTIALS_…: ECS task role, EKS Pod Identity) were refused "
            "or unreadable: look at the task's role, the pod's identity association, and the token file",
        ),
        **_rows(
            Kind.CREDENTIALS,
            "CredentialRetrievalError MetadataRetrievalError RefreshedButExpired MissingDependencyException "
            "InvalidIMDSEndpointError InvalidIMDSEndpointModeError",
            "look at where the AWS credentials come from (role, profile, container): what it gave cannot be used",
        ),
    },
    "sdk": {
        **_rows(
            Kind.NETWORK,
            "EndpointConnectionError ConnectTimeoutError ReadTimeoutError ConnectionClosedError ConnectionError "
            "HTTPClientError ProxyConnectionError ResponseStreamingError IncompleteReadError ChecksumError "
            "FlexibleChecksumError SSLError",
        ),
        **_rows(
            Kind.NETWORK,
            "NotFromAws",
            "something between here and AWS answers in its place (a proxy's page, a captive portal, another server): "
            "look at HTTPS_PROXY, the endpoint and the network; nothing is lost, run again",
        ),
        **_rows(Kind.NETWORK, "AnswerTooLong"),
        **_rows(
            Kind.CREDENTIALS,
            "ProxyRefused",
            "give the proxy the credentials that it asks for, in HTTPS_PROXY",
        ),
        **_rows(
            Kind.REQUEST,
            "CertificateRefused",
            "let AWS_CA_BUNDLE name a file with the certificate of whoever signed it, such as your proxy's, and all "
            "others that you trust; look at the clock too",
        ),
        **_rows(Kind.REQUEST, "SettingsRefused", "correct what the message names"),
        **_rows(
            Kind.REQUEST,
            "ParamValidationError",
            "correct the names in the settings: the AWS SDK does not take one of them",
        ),
    },
}
"""Service → code → meaning. ``credentials`` are the SDK's own failures to get some (by the names of its exceptions, and
four names of ours), ``sdk`` all its other failures."""

_SDKS_DEFAULT = Meaning(
    Kind.REQUEST, "correct what the AWS SDK reads: ~/.aws/config, the AWS_… variables, and aws.region"
)
"""For an exception of the SDK without a row: nothing that it raises besides those of the network passes by itself."""
_UNREADABLE = Meaning(
    Kind.NETWORK,
    "the answer cannot be understood, or did not come whole: look at the service and the network (endpoint, proxy); "
    "nothing is lost, run again",
)
"""For the exceptions of Python and aiohttp while an answer is received and read."""
_BY_STATUS: tuple[tuple[Iterable[int], Meaning], ...] = (
    ((401, 403), Meaning(Kind.PERMISSION)),
    ((408, 429), Meaning(Kind.BUSY)),
    (range(300, 400), Meaning(Kind.REGION)),
    (range(400, 500), Meaning(Kind.REQUEST)),
    (range(500, 600), Meaning(Kind.UNWELL)),
)
"""HTTP status → what a code without a row means; without a status (an entry of a batch): a service that fails."""


def meaning(service: str, code: str, status: int = 0, message: str = "") -> Meaning:
    """What it means that ``service`` answers with this code, HTTP status and message. There is always an answer."""
    short = code.removeprefix("AWS.SimpleQueueService.")
    words = message.lower()
    if short in _SIGNATURES and any(sign in words for sign in _OF_THE_CLOCK):
        return Meaning(Kind.CLOCK)
    found = SERVICES.get(service, {}).get(short) or (_of_kms(short) if service != "kms" else None)
    found = found or EVERY_SERVICE.get(short)
    if found is None:
        return next((said for statuses, said in _BY_STATUS if status in statuses), Meaning(Kind.UNWELL))
    if found.kind is Kind.PERMISSION and "kms:" in words:  # S3 says AccessDenied, and only the message names the key
        return Meaning(Kind.KEY)
    return found


def _of_kms(code: str) -> Meaning | None:
    """KMS has another spelling in each service: ``KMS.DisabledException``, ``KmsDisabled``, ``KMSInvalidState…``."""
    if not code.lower().startswith("kms"):
        return None
    if any(part in code for part in _NOT_A_KEY):
        return Meaning(Kind.BUSY if "Throttl" in code or "Limit" in code else Kind.UNWELL)
    return Meaning(Kind.KEY)


def service_of(operation: str) -> str:
    """The service that an operation belongs to; empty if this program does not call it."""
    return _SERVICE_OF.get(operation, "")


def of_the_sdk(names: Iterable[str], *, is_sdks: bool) -> Meaning:
    """What an exception means by the names of its class and of that class's bases, the nearest first.

    ``is_sdks``: whether the SDK defines it, or this program for the SDK.
    """
    tables = (SERVICES["credentials"], SERVICES["sdk"])
    for name in names:
        for table in tables:
            if name in table:
                return table[name]
    return _SDKS_DEFAULT if is_sdks else _UNREADABLE


def main() -> None:
    """Print the table for people."""
    print(document(), end="")  # noqa: T201 - this is what the module is run for


def document() -> str:
    """The table as ``docs/aws-errors.md``."""
    lines = [
        "# What AWS says",
        "",
        "Made by `python -m worker.adapters.aws.error_table`; do not edit. Each code of AWS and of its SDK, with the",
        "exit code of the command that it ends and what to do.",
        "",
        "A code that is not here is judged by its HTTP status: 401 and 403 are permissions (3), 408 and 429 are too",
        "many requests (75), every other 3xx and 4xx wants a person (3), 5xx is a service that fails (75). Codes that",
        "begin with `KMS` or `Kms` are the key's (3), unless they say that KMS is throttled or fails (75).",
        "An `InvalidSignatureException` or `SignatureDoesNotMatch` is the clock's where its message says that the",
        "signature expired or is not yet current; an `AccessDenied` whose message names `kms:` is the key's.",
        "",
        "What ends with 3 lasts until somebody acts. In a run the ledger is still tried for `ledger.patience`, and a",
        "channel that refuses everybody for ten seconds, in case a permission is just being repaired.",
    ]
    for service, table in {"every service": EVERY_SERVICE, **SERVICES}.items():
        lines += ["", f"## {service}", "", "| codes | exit | is about | do |", "|---|---|---|---|"]
        grouped: dict[Meaning, list[str]] = {}
        for code, said in table.items():
            grouped.setdefault(said, []).append(f"`{code}`")
        for said, codes in grouped.items():
            cure = said.what_to_do("the operation").replace("|", "\\|")
            lines.append(f"| {', '.join(codes)} | {int(said.exit_code)} | {said.kind} | {cure} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
