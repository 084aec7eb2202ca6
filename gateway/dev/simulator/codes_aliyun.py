"""Aliyun's error codes and receipt codes, as data.  Business errors come with HTTP 200, those of the API gateway
(https://help.aliyun.com/document_detail/2593177.html) with 4xx and 5xx; both have one shape.
"""

from __future__ import annotations

from typing import Final

from gateway.dev.simulator.fault import Fault
from gateway.dev.simulator.names import Outcome

# What the pages of both products have.
_COMMON: Final = {
    "isv.BUSINESS_LIMIT_CONTROL": Fault(200, "触发流控"),
    "isv.MOBILE_NUMBER_ILLEGAL": Fault(200, "号码格式非法"),
    "isv.TEMPLATE_MISSING_PARAMETERS": Fault(200, "模板变量缺少对应参数值"),
    "isv.INVALID_JSON_PARAM": Fault(200, "参数格式错误"),
    "isv.INVALID_PARAMETERS": Fault(200, "参数异常"),
    "isv.OUT_OF_SERVICE": Fault(200, "业务停机"),
    "isv.AMOUNT_NOT_ENOUGH": Fault(200, "账户余额不足"),
    "isv.ACCOUNT_NOT_EXISTS": Fault(200, "账户不存在"),
    "isv.ACCOUNT_ABNORMAL": Fault(200, "账户异常"),
    "isv.PRODUCT_UNSUBSCRIBE": Fault(200, "产品未开通"),
    "isv.PRODUCT_UN_SUBSCRIPT": Fault(200, "未开通云通信产品的阿里云客户"),
    "isp.SYSTEM_ERROR": Fault(200, "系统错误"),
    "isp.GATEWAY_ERROR": Fault(200, "网关错误"),
    "isp.RAM_PERMISSION_DENY": Fault(200, "RAM权限不足"),
    "Throttling": Fault(400, "Request was denied due to request throttling."),
    "Throttling.User": Fault(400, "Request was denied due to user flow control."),
    "ServiceUnavailable": Fault(503, "The request has failed due to a temporary failure of the server."),
    "InternalError": Fault(500, "The request processing has failed due to some unknown error."),
    "InvalidAction.NotFound": Fault(404, "Specified api is not found."),
    "InvalidVersion": Fault(400, "Specified parameter Version is not valid."),
    "InvalidAccessKeyId.NotFound": Fault(404, "Specified access key is not found."),
    "IncompleteSignature": Fault(400, "The request signature does not conform to the standards."),
    "SignatureDoesNotMatch": Fault(400, "Specified signature is not matched with our calculation."),
    "SignatureNonceUsed": Fault(400, "Specified signature nonce was used already."),
    "InvalidTimeStamp.Format": Fault(400, "Specified time stamp or date value is not well formatted."),
    "InvalidTimeStamp.Expired": Fault(400, "Specified time stamp or date value is expired."),
}

# https://help.aliyun.com/zh/vms/developer-reference/api-error-code
ALIYUN_VOICE: Final = {
    **_COMMON,
    "isv.VOICE_CALL_PERIOD_ERROR": Fault(200, "不在可呼叫时间段"),
    "isv.VOICE_ROBOT_NOT_PERIOD": Fault(200, "不在可呼叫时间段"),
    "isv.COMPLAINT_REJECT": Fault(200, "被叫号码投诉拒绝"),
    "isv.TTS_TEMPLATE_ILLEGAL": Fault(200, "TTS模板不合法"),
    "isv.BLACK_KEY_CONTROL_LIMIT": Fault(200, "模板变量中存在黑名单关键字"),
    "isv.DISPLAY_NUMBER_ILLEGAL": Fault(200, "号显不合法"),
    "isv.BILLID_NOT_EXIST": Fault(200, "话单不存在"),
    "isv.VOICE_CALL_FAIL": Fault(200, "语音呼叫失败"),
    "MissingCalledNumber": Fault(400, "CalledNumber is mandatory for this action."),
    "MissingTtsCode": Fault(400, "TtsCode is mandatory for this action."),
}

# https://help.aliyun.com/document_detail/101346.html
ALIYUN_SMS: Final = {
    **_COMMON,
    "isv.DOMESTIC_NUMBER_NOT_SUPPORTED": Fault(200, "国际/港澳台消息模板不支持发送境内号码"),
    "isv.MOBILE_COUNT_OVER_LIMIT": Fault(200, "手机号码数量超过限制"),
    "isv.BLACK_KEY_CONTROL_LIMIT": Fault(200, "黑名单管控"),
    "isv.CUSTOMER_REFUSED": Fault(200, "用户已退订推广短信"),
    "isv.DAY_LIMIT_CONTROL": Fault(200, "触发日发送限额"),
    "isv.MONTH_LIMIT_CONTROL": Fault(200, "触发月发送限额"),
    "isv.SMS_TEMPLATE_ILLEGAL": Fault(200, "该账号下找不到对应模板"),
    "isv.SMS_CONTENT_ILLEGAL": Fault(200, "短信内容包含禁止发送内容"),
    "isv.SMS_SIGNATURE_ILLEGAL": Fault(200, "该账号下找不到对应签名"),
    "isv.SMS_SIGN_ILLEGAL": Fault(200, "签名禁止使用"),
    "isv.SIGN_STATE_ILLEGAL": Fault(200, "签名状态为“不可用”"),
    "isv.SMS_SIGNATURE_SCENE_ILLEGAL": Fault(200, "签名和模板类型不一致"),
    "isv.EXTEND_CODE_ERROR": Fault(200, "扩展码使用错误，相同的扩展码不可用于多个签名"),
    "isv.SECURITY_FROZEN_ACCOUNT": Fault(200, "账号已被安全冻结"),
    "MissingPhoneNumbers": Fault(400, "PhoneNumbers is mandatory for this action."),
    "MissingSignName": Fault(400, "SignName is mandatory for this action."),
    "MissingTemplateCode": Fault(400, "TemplateCode is mandatory for this action."),
}

# https://help.aliyun.com/document_detail/55085.html: the call's final status_code.
ALIYUN_VOICE_RECEIPTS: Final[dict[Outcome, str | None]] = {
    Outcome.DELIVERED: "200000",
    Outcome.OPENED: "200000",
    Outcome.ANSWERED: "200000",
    Outcome.SENT: None,
    Outcome.UNDELIVERED: "200010",
    Outcome.FAILED: "200004",
    Outcome.BUSY: "200002",
    Outcome.NO_ANSWER: "200003",
    Outcome.DECLINED: "200005",
    Outcome.NONE: None,
}
ALIYUN_VOICE_ANSWERED: Final = frozenset({"200000", "200001"})

# https://help.aliyun.com/en/sms/developer-reference/delivery-receipt-error-codes: the report's err_code.
ALIYUN_SMS_DELIVERED: Final = "DELIVERED"
ALIYUN_SMS_RECEIPTS: Final[dict[Outcome, str | None]] = {
    Outcome.DELIVERED: ALIYUN_SMS_DELIVERED,
    Outcome.OPENED: ALIYUN_SMS_DELIVERED,
    Outcome.ANSWERED: ALIYUN_SMS_DELIVERED,
    Outcome.SENT: None,
    Outcome.UNDELIVERED: "MOBILE_NOT_ON_SERVICE",
    Outcome.FAILED: "SP_UNKNOWN_ERROR",
    Outcome.BUSY: "MOBILE_NOT_ON_SERVICE",
    Outcome.NO_ANSWER: "MOBILE_NOT_ON_SERVICE",
    Outcome.DECLINED: "MOBILE_IN_BLACK",
    Outcome.NONE: None,
}
