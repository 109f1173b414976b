"""From verified claims to a user, as one issuer's part of the AuthenticationConfiguration says. Pure.

Expressions are CEL with `claims` (a map) or, in rules on users, `user` (username, uid, groups, extra). They are compiled when the file
is read, so that a mistake stops the start and not the first login.
"""

from collections.abc import Mapping
from typing import Any, Final

from machinery.api.expressions import compiling, library
from machinery.meta.resource import Document
from machinery.server.oidc.config import (
    ConfigError,
    JWTAuthenticator,
    Mappings,
    PlainClaim,
    PrefixedClaim,
)
from machinery.server.user import AUTHENTICATED, UserInfo

NOT_INSTALLED: Final = "expressions need the package cel-expr-python, which is not installed here"
EXPRESSION_LETTERS_MAX: Final = 16 * 1024


class Refused(Exception):
    """The token is good and its bearer is not let in; the text says why, for the log."""


class Mapper:
    """How one issuer's claims are read. Raises ConfigError where an expression does not compile."""

    def __init__(self, settings: JWTAuthenticator, path: str) -> None:
        self._settings = settings
        self._programs: dict[tuple[str, str], compiling.Program] = {}
        if any(expression for _, _, expression in _expressions(settings)):
            self._compile(path)

    def user(self, claims: Document) -> UserInfo:
        """The user. Raises Refused."""
        for rule in self._settings.claimValidationRules:
            if rule.claim:
                self._require(claims, rule.claim, rule.requiredValue)
            elif self._run("claims", rule.expression, claims) is not True:
                raise Refused(rule.message or f"validation expression '{rule.expression}' failed")
        user = self._mapped(claims, self._settings.claimMappings)
        shown = {
            "username": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
        }
        for check in self._settings.userValidationRules:
            if self._run("user", check.expression, shown) is not True:
                raise Refused(check.message or f"validation expression '{check.expression}' failed")
        return user

    def _mapped(self, claims: Document, mappings: Mappings) -> UserInfo:
        name = self._username(claims, mappings.username)
        if not name:
            raise Refused("username claim or expression gives an empty name")
        groups = self._listed(claims, mappings.groups, "groups")
        prefix = mappings.groups.prefix or ""
        extra: dict[str, tuple[str, ...]] = {}
        for one in mappings.extra:
            found = _texts(self._run("claims", one.valueExpression, claims), f"extra {one.key}")
            if found := tuple(text for text in found if text):
                extra[one.key] = found
        uid = self._plain(claims, mappings.uid)
        return UserInfo(
            name, (*(f"{prefix}{group}" for group in groups), AUTHENTICATED), uid, extra
        )

    def _username(self, claims: Document, mapping: PrefixedClaim) -> str:
        if mapping.expression:
            return _text(self._run("claims", mapping.expression, claims), "username")
        if mapping.claim == "email" and claims.get("email_verified", True) is not True:
            raise Refused("email not verified")
        name = _text(claims.get(mapping.claim, ""), f"claim {mapping.claim}")
        return f"{mapping.prefix or ''}{name}" if name else ""

    def _listed(self, claims: Document, mapping: PrefixedClaim, what: str) -> tuple[str, ...]:
        if mapping.expression:
            return _texts(self._run("claims", mapping.expression, claims), what)
        return _texts(claims.get(mapping.claim), what) if mapping.claim else ()

    def _plain(self, claims: Document, mapping: PlainClaim) -> str:
        if mapping.expression:
            return _text(self._run("claims", mapping.expression, claims), "uid")
        return _text(claims.get(mapping.claim, ""), "uid") if mapping.claim else ""

    def _require(self, claims: Document, claim: str, value: str) -> None:
        if claim not in claims:
            raise Refused(f"required claim {claim} not present in token")
        if claims[claim] != value:
            raise Refused(f"required claim {claim} has not the value {value!r}")

    # -------------------------------------------------------------------------------------------- expressions
    def _compile(self, path: str) -> None:
        if library.library() is None:
            raise ConfigError(f"{path}: {NOT_INSTALLED}")
        faults = []
        for where, variable, expression in _expressions(self._settings):
            if not expression:
                continue
            if len(expression) > EXPRESSION_LETTERS_MAX:
                faults.append(
                    f"{path}.{where}: Too long: may not be more than {EXPRESSION_LETTERS_MAX}"
                )
                continue
            try:
                program = compiling.compiled(_SCOPES[variable], expression)
            except compiling.CompileFault as error:
                faults.append(
                    f'{path}.{where}: Invalid value: "{expression}": compilation failed: {error}'
                )
                continue
            if where.endswith("Rules.expression") and program.returns not in ("bool", "dyn"):
                faults.append(
                    f'{path}.{where}: Invalid value: "{expression}": must evaluate to bool'
                )
            self._programs[variable, expression] = program
        if faults:
            raise ConfigError("\n".join(faults))

    def _run(self, variable: str, expression: str, value: Document) -> Any:
        try:
            return self._programs[variable, expression].value(
                compiling.activation({variable: value})
            )
        except compiling.EvaluationFault as error:
            raise Refused(f"expression '{expression}' resulted in error: {error}") from None


def _expressions(settings: JWTAuthenticator) -> list[tuple[str, str, str]]:
    """(where in the settings, its variable, the text or empty) of all that may be an expression."""
    mappings = settings.claimMappings
    found = [
        ("claimValidationRules.expression", "claims", r.expression)
        for r in settings.claimValidationRules
    ]
    found += [
        ("claimMappings.username.expression", "claims", mappings.username.expression),
        ("claimMappings.groups.expression", "claims", mappings.groups.expression),
        ("claimMappings.uid.expression", "claims", mappings.uid.expression),
    ]
    found += [
        ("claimMappings.extra.valueExpression", "claims", e.valueExpression) for e in mappings.extra
    ]
    found += [
        ("userValidationRules.expression", "user", r.expression)
        for r in settings.userValidationRules
    ]
    return found


_SCOPES: Final = {
    variable: compiling.Scope(((variable, "map<string,dyn>"),)) for variable in ("claims", "user")
}


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise Refused(f"{what} is no string")
    return value


def _texts(value: Any, what: str) -> tuple[str, ...]:
    """A string, a list of strings, or nothing."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise Refused(f"{what} is neither a string nor a list of strings")


def issuer_of(payload: Mapping[str, Any]) -> str:
    """The issuer that claims say, verified or not; empty where they say none."""
    found = payload.get("iss")
    return found if isinstance(found, str) else ""
