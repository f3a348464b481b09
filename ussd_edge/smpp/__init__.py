"""USSD over SMPP 3.4: a process that is bound to a message centre and passes its deliver_sm to the edge, each answer
back as submit_sm with the same session. It keeps nothing: sessions and money are the edge's and the nodes' business."""
