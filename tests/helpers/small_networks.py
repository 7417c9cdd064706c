"""Arguments that make the large networks small enough for tests."""

SMALL = {"flattenet": {"backbone": "resnet50"}, "hrnet": {"width": 18}, "ocrnet": {"width": 18, "channels": 64},
         "ovenet": {"width": 18}, "upernet": {"channels": 64}, "setr": {"backbone": "vit_reduced"}}
