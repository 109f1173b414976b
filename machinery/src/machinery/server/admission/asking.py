"""What expressions ask of the server's authorizer: who answers, and the question that the request itself is."""

from machinery.api.expressions.functions.authorizing import Answer, Question
from machinery.server.admission.matching import Asked
from machinery.server.authz import Authorizer
from machinery.server.rbac import Attributes
from machinery.server.user import UserInfo, service_account_user


def answer_of(authorizer: Authorizer, user: UserInfo) -> Answer:
    """Answers for whoever made the request, or for the ServiceAccount that is named."""

    def answer(question: Question) -> tuple[bool, str]:
        who = user
        if question.account:
            namespace, _, name = question.account.partition(":")
            who = service_account_user(namespace, name)
        asked = Attributes(
            question.verb, question.group, question.resource, question.subresource,
            question.namespace, question.name, question.path,
        )  # fmt: skip
        allowed = authorizer.allows(who, asked)
        return allowed, authorizer.reason(who, asked) if allowed else ""

    return answer


def question_of(asked: Asked) -> Question:
    """`authorizer.requestResource`, to which only the verb is wanting."""
    kind = asked.kind
    return Question(
        "", group=kind.group, resource=kind.plural, subresource=asked.subresource,
        namespace=asked.namespace, name=asked.name,
    )  # fmt: skip
